package proxy

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// abortable says whether it was aborted when its time was over.
type abortable struct{ over, late atomic.Bool }

func (a *abortable) abort() {
	if a.over.Load() {
		a.late.Store(true)
	}
}

// TestUnwatch: what a request of HTTP/2 waited for serves others once it is not watched
// any more, and is left alone although the client goes at that moment.
func TestUnwatch(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			ctx, leave := context.WithCancel(context.Background())
			c := &stream{r: new(http.Request).WithContext(ctx)}
			a := new(abortable)
			c.watch(a)
			leave()
			c.unwatch()
			a.over.Store(true)
			synctest.Wait()
			if a.late.Load() {
				t.Fatal("a connection was aborted after its request")
			}
		})
	}
}
