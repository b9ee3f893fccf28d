package store

import (
	"bytes"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/fifegateway/fife/controlplane/release"
)

// Outcome is what a command came to. On a refusal only Refusal and Version are
// set; otherwise the resource that the command wrote, if any.
type Outcome struct {
	Refusal    *release.Refusal
	API        *release.API
	Route      *release.Route
	Deployment *release.Deployment
	Stage      *release.Stage
	Imported   *Imported
	Checkpoint uint64  // index of the state kept, of a Checkpoint command
	Version    Version // what agents route by once they have seen the command's effect
}

// outcomeLog remembers the outcomes of commands with a request id, bounded by
// count and, by the commands' own times, by age.
type outcomeLog struct {
	byID    *iradix.Tree[remembered]
	byIndex queue[string] // request id
}

type remembered struct {
	id          string
	index       uint64
	time        time.Time
	fingerprint []byte
	outcome     Outcome
}

func newOutcomeLog() outcomeLog {
	return outcomeLog{byID: iradix.New[remembered]()}
}

// find returns the outcome of an earlier command with the same request id; a
// command that differs from it is refused.
func (l outcomeLog) find(id string, fingerprint []byte) (Outcome, bool) {
	r, ok := l.byID.Get([]byte(id))
	if !ok {
		return Outcome{}, false
	}
	if !bytes.Equal(r.fingerprint, fingerprint) {
		return Outcome{Refusal: release.ReusedRequestID(id)}, true
	}
	return r.outcome, true
}

func (l outcomeLog) add(r remembered) outcomeLog {
	if r.outcome.Stage != nil {
		bare := *r.outcome.Stage
		bare.History = nil // the stage itself keeps it
		r.outcome.Stage = &bare
	}
	if r.outcome.Deployment != nil {
		bare := *r.outcome.Deployment
		bare.Routes = nil // as above
		r.outcome.Deployment = &bare
	}
	l.byID, _, _ = l.byID.Insert([]byte(r.id), r)
	l.byIndex = l.byIndex.push(r.id)
	for {
		id := l.byIndex.at(0)
		oldest, _ := l.byID.Get([]byte(id))
		if l.byIndex.len() <= outcomeLimit && r.time.Sub(oldest.time) <= outcomeTTL {
			return l
		}
		l.byIndex = l.byIndex.pop()
		l.byID, _, _ = l.byID.Delete([]byte(id))
	}
}
