package discovery

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fifegateway/fife/agent/route"
)

// TestClientStartsFromDisk: without any node, what was held is served at once,
// and said to the node that comes.
func TestClientStartsFromDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		config := n.config("n1:1")
		stopNode := n.node("n1:1", func(s *stream) error {
			s.hello()
			s.ack(cp.full())
			return s.hold()
		})
		c := n.client(config)
		stop := n.start(c)
		wait(t, c, 10)
		stop()
		stopNode()

		c = n.client(config)
		wantServed(t, c, "demo/1", 10)
		n.start(c)
		time.Sleep(time.Hour)
		synctest.Wait()
		wantServed(t, c, "demo/1", 10)
		n.node("n1:1", func(s *stream) error {
			if h := s.hello(); !proto.Equal(h.GetHave(), version(10)) || !proto.Equal(h.GetSeen(), version(10)) {
				t.Errorf("hello %v", h)
			}
			s.ack(cp.step(11, one(stage("demo", "prod", 2, 11))))
			return s.hold()
		})
		wait(t, c, 11)
		wantServed(t, c, "demo/2", 11)
	})
}

// TestClientWithAnotherFilter: what was received for other APIs is served, but no
// delta can follow it.
func TestClientWithAnotherFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		config := n.config("n1:1")
		var resumed []bool
		first := func(s *stream) error {
			resumed = append(resumed, s.hello().GetHave() != nil)
			s.ack(cp.full())
			return nil
		}
		second := func(s *stream) error {
			resumed = append(resumed, s.hello().GetHave() != nil)
			return s.hold()
		}
		n.node("n1:1", first, second, first, second, first, second)
		for _, apis := range [][]string{nil, {"shop", "demo"}, {"demo", "shop"}} {
			config.APIs = apis
			c := n.client(config)
			changed := c.Changed()
			stop := n.start(c)
			await(t, changed)
			time.Sleep(time.Second) // until the second stream
			stop()
			wantServed(t, c, "demo/1", 10)
		}
		if !slices.Equal(resumed, []bool{false, true, false, true, true, true}) {
			t.Errorf("resumed: %v", resumed)
		}
	})
}

// TestClientWithoutDisk: a frame that cannot be kept is not routed by, and asked for
// again, as the disk may be mended by then.
func TestClientWithoutDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, cp := newNetwork(t), newControlPlane()
		config := n.config("n1:1")
		obstacle := filepath.Join(config.Dir, currentName+tmpSuffix)
		n.node("n1:1", func(s *stream) error {
			s.hello()
			if err := os.Mkdir(obstacle, 0o700); err != nil {
				t.Error(err)
			}
			if n := s.refused(cp.full(), "to disk", false); !n.GetRetry() {
				t.Errorf("%v asks for no retry", n)
			}
			if err := os.Remove(obstacle); err != nil {
				t.Error(err)
			}
			s.ack(cp.full())
			return s.hold()
		})
		c := n.client(config)
		n.start(c)
		wait(t, c, 10)
		wantServed(t, c, "demo/1", 10)
		if nack := c.Status().LastNack; nack != "" {
			t.Errorf("it still refuses: %s", nack)
		}
	})
}

func TestNewLogsDamage(t *testing.T) {
	var log bytes.Buffer
	config := newNetwork(t).config("n1:1")
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if err := os.WriteFile(filepath.Join(config.Dir, currentName), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newNetwork(t).client(config)
	if !c.Status().Applied.IsZero() || c.Table().Version() != (route.Version{}) || !strings.Contains(log.String(), "damaged") {
		t.Errorf("status %+v, log %s", c.Status(), &log)
	}
}
