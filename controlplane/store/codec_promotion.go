package store

import (
	"github.com/fifegateway/fife/controlplane/release"
	storev1 "github.com/fifegateway/fife/gen/fife/store/v1"
)

func encodePromotion(p *release.Promotion) *storev1.Promotion {
	if p == nil {
		return nil
	}
	out := &storev1.Promotion{
		Number:     p.Number,
		State:      uint32(p.State),
		Mode:       uint32(p.Mode),
		OnTimeout:  uint32(p.OnTimeout),
		CreateTime: encodeTime(p.CreateTime),
		Deadline:   encodeTime(p.Deadline),
		Config:     encodeConfig(p.Config),
		Committed:  p.Committed,
		Epoch:      p.Epoch,
		FlipTime:   encodeTime(p.FlipTime),
		EndTime:    encodeTime(p.EndTime),
		Reason:     p.Reason,
		Actor:      p.Actor,
		Fenced:     p.Fenced,
		Report:     EncodeReport(p.Report),
	}
	if p.Committed != 0 {
		out.Former = encodeConfig(p.Former)
	}
	for _, w := range p.Waves {
		out.Waves = append(out.Waves, &storev1.ReachedWave{
			Agents: w.Agents, Labels: w.Labels, PartsPerMillion: w.PartsPerMillion, Index: w.Index, Dwell: encodeDuration(w.Dwell),
		})
	}
	return out
}

func decodePromotion(p *storev1.Promotion) *release.Promotion {
	if p == nil {
		return nil
	}
	out := &release.Promotion{
		Number:     p.GetNumber(),
		State:      release.PromotionState(p.GetState()),
		Mode:       release.SyncMode(p.GetMode()),
		OnTimeout:  release.TimeoutPolicy(p.GetOnTimeout()),
		CreateTime: decodeTime(p.GetCreateTime()),
		Deadline:   decodeTime(p.GetDeadline()),
		Config:     decodeConfig(p.GetConfig()),
		Former:     decodeConfig(p.GetFormer()),
		Committed:  p.GetCommitted(),
		Epoch:      p.GetEpoch(),
		FlipTime:   decodeTime(p.GetFlipTime()),
		EndTime:    decodeTime(p.GetEndTime()),
		Reason:     p.GetReason(),
		Actor:      p.GetActor(),
		Fenced:     p.GetFenced(),
		Report:     decodeReport(p.GetReport()),
	}
	for _, w := range p.GetWaves() {
		out.Waves = append(out.Waves, release.ReachedWave{
			Agents: w.GetAgents(), Labels: w.GetLabels(), PartsPerMillion: w.GetPartsPerMillion(),
			Index: w.GetIndex(), Dwell: w.GetDwell().AsDuration(),
		})
	}
	return out
}

// EncodeReport returns what is kept of the evidence for a promotion.
func EncodeReport(r release.PromotionReport) *storev1.PromotionReport {
	return &storev1.PromotionReport{
		Agents: r.Agents, Prepared: r.Prepared, Fenced: r.Fenced, Stale: r.Stale, Refused: r.Refused,
		Window: encodeDuration(r.Window), ClockError: encodeDuration(r.ClockError),
	}
}

func decodeReport(p *storev1.PromotionReport) release.PromotionReport {
	return release.PromotionReport{
		Agents: p.GetAgents(), Prepared: p.GetPrepared(), Fenced: p.GetFenced(), Stale: p.GetStale(), Refused: p.GetRefused(),
		Window: p.GetWindow().AsDuration(), ClockError: p.GetClockError().AsDuration(),
	}
}

func encodeWaves(waves []release.Wave) (out []*storev1.Wave) {
	for _, w := range waves {
		out = append(out, &storev1.Wave{
			OnePerLabel: w.OnePerLabel, Labels: w.Labels, PartsPerMillion: w.PartsPerMillion, Dwell: encodeDuration(w.Dwell),
		})
	}
	return out
}

func decodeWaves(waves []*storev1.Wave) (out []release.Wave) {
	for _, w := range waves {
		out = append(out, release.Wave{
			OnePerLabel: w.GetOnePerLabel(), Labels: w.GetLabels(), PartsPerMillion: w.GetPartsPerMillion(), Dwell: w.GetDwell().AsDuration(),
		})
	}
	return out
}

func encodeAgent(a release.Agent) *storev1.Agent { return &storev1.Agent{Id: a.ID, Labels: a.Labels} }

func decodeAgent(p *storev1.Agent) release.Agent {
	return release.Agent{ID: p.GetId(), Labels: p.GetLabels()}
}
