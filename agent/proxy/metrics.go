package proxy

import (
	"maps"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSeries bounds how many triples of API, stage and variant have series of
// their own: stages come and go over the life of an agent, series stay. What
// comes later is counted together, as "other".
const maxSeries = 1000

// seriesKey names the series of one variant of one stage. A request that found
// no stage has the zero key: nothing that a client makes up becomes a label.
type seriesKey struct{ api, stage, variant string }

// series are the resolved metrics of one seriesKey.
type series struct {
	requests [6]prometheus.Counter // by first digit of the status, which is 100 to 599
	duration prometheus.Observer
	unset    prometheus.Counter

	throttled [limits]prometheus.Counter // by limit; nil for unlimited
}

// metrics hold what is counted. Reading series takes no lock: the map is
// replaced whenever one is added, which is rare.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	unset    *prometheus.CounterVec
	throttle *prometheus.CounterVec
	open     prometheus.Gauge
	refused  prometheus.Counter
	noLease  prometheus.Counter
	series   atomic.Pointer[map[seriesKey]*series]
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fife_agent_requests_total",
			Help: "Requests served, by the first digit of their status. A client that went away counts as 4xx.",
		}, []string{"api", "stage", "variant", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "fife_agent_request_duration_seconds",
			Help:    "Time from a request's head to the end of its response; of a stream, to the end of the stream.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 29},
		}, []string{"api", "stage", "variant"}),
		unset: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fife_agent_unset_variables_total",
			Help: "Requests answered 500 because their route needs a stage variable that is not set.",
		}, []string{"api", "stage", "variant"}),
		throttle: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fife_agent_throttled_requests_total",
			Help: "Requests answered 429 because their stage was above a limit.",
		}, []string{"api", "stage", "reason"}),
	}
	m.open = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fife_agent_connections_open",
		Help: "Connections of clients.",
	})
	m.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fife_agent_connections_refused_total",
		Help: "Connections closed at once because their address had too many.",
	})
	m.noLease = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fife_agent_unleased_requests_total",
		Help: "Requests answered 503 because their stage fails closed and the agent had no lease.",
	})
	m.series.Store(&map[seriesKey]*series{})
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.unset, m.throttle, m.open, m.refused, m.noLease} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(x *exchange) {
	var key seriesKey
	if x.stage != nil {
		key = seriesKey{x.stage.API, x.stage.Name, x.variant.Name}
	}
	s := m.get(key)
	s.requests[x.status/100].Inc()
	s.duration.Observe(x.took.Seconds())
	if x.unset {
		s.unset.Inc()
	}
	if x.above != unlimited {
		s.throttled[x.above].Inc()
	}
}

func (m *metrics) get(key seriesKey) *series {
	for {
		old := m.series.Load()
		if s := (*old)[key]; s != nil {
			return s
		}
		if len(*old) >= maxSeries {
			key = seriesKey{"other", "other", "other"}
			if s := (*old)[key]; s != nil {
				return s
			}
		}
		next := maps.Clone(*old)
		s := m.resolve(key)
		next[key] = s
		if m.series.CompareAndSwap(old, &next) {
			return s
		}
	}
}

func (m *metrics) resolve(key seriesKey) *series {
	s := &series{
		duration: m.duration.WithLabelValues(key.api, key.stage, key.variant),
		unset:    m.unset.WithLabelValues(key.api, key.stage, key.variant),
	}
	if key != (seriesKey{}) { // what found no stage met no limit
		for l := unlimited + 1; l < limits; l++ {
			s.throttled[l] = m.throttle.WithLabelValues(key.api, key.stage, l.String())
		}
	}
	for digit := 1; digit < len(s.requests); digit++ {
		s.requests[digit] = m.requests.WithLabelValues(key.api, key.stage, key.variant, strconv.Itoa(digit)+"xx")
	}
	return s
}
