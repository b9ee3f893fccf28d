package signin_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fifegateway/fife/controlplane/bubbletest"
	"github.com/fifegateway/fife/controlplane/signin"
	"github.com/fifegateway/fife/controlplane/signin/signintest"
)

// TestRotation: a token that is signed with a new key is good at once, and one of a key
// that was withdrawn is bad before long.
func TestRotation(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		issuer := signintest.New(issuerURL)
		v := start(t, issuer, nil)
		old := issuer.Token(ann)
		if _, err := v.Verify(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the bubble's
		issuer.Rotate()
		began := time.Now()
		if _, err := v.Verify(t.Context(), issuer.Token(ann)); err != nil || time.Since(began) > 0 {
			t.Errorf("of a new key: %v, after %v", err, time.Since(began))
		}
		if _, err := v.Verify(t.Context(), old); err != nil {
			t.Errorf("of an old key that is still published: %v", err)
		}
		issuer.Withdraw()
		time.Sleep(16 * time.Minute)
		if _, err := v.Verify(t.Context(), old); !errors.Is(err, signin.ErrRefused) {
			t.Errorf("of a key that was withdrawn: %v", err)
		}
		if _, err := v.Verify(t.Context(), issuer.Token(ann)); err != nil {
			t.Errorf("of the key that is left: %v", err)
		}
	})
}

// TestFlood: tokens with made-up keys do not make the node a burden for the issuer, nor
// hold up those with known ones; and a new key is known soon, flood or not.
func TestFlood(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		issuer := signintest.New(issuerURL)
		v := start(t, issuer, nil)
		if _, err := v.Verify(t.Context(), issuer.Token(ann)); err != nil {
			t.Fatal(err)
		}
		forged := signintest.New(issuerURL)
		forged.Rotate() // an id that the issuer has not used
		bad := forged.Token(ann)
		before := issuer.Requests("/keys")
		const seconds = 60
		for range seconds {
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if _, err := v.Verify(t.Context(), bad); !errors.Is(err, signin.ErrRefused) {
						t.Errorf("made up: %v", err)
					}
				})
			}
			began := time.Now()
			if _, err := v.Verify(t.Context(), issuer.Token(ann)); err != nil || time.Since(began) > 0 {
				t.Errorf("in the flood: %v, after %v", err, time.Since(began))
			}
			all.Wait()
			time.Sleep(time.Second)
		}
		v.Want() // there is room for one
		v.Want() // the first was taken
		synctest.Wait()
		if n := issuer.Requests("/keys") - before; n < 1 || n > seconds/10 {
			t.Errorf("%d forged tokens had the keys fetched %d times", 50*seconds, n)
		}
		for _, other := range []claims{{"iss": "https://evil.example"}, {"aud": "other"}, {"exp": 1}} {
			time.Sleep(11 * time.Second)
			n := issuer.Requests("/keys")
			if _, err := v.Verify(t.Context(), forged.Token(with(ann, other))); err == nil || issuer.Requests("/keys") > n {
				t.Errorf("%v: %v, and a key is looked for", other, err)
			}
		}
		issuer.Rotate()
		time.Sleep(11 * time.Second)
		if _, err := v.Verify(t.Context(), issuer.Token(ann)); err != nil {
			t.Errorf("of a new key: %v", err)
		}
	})
}

// TestIssuerAway: a node does without its issuer, and says so in bounded time; what it
// knows lasts for a day.
func TestIssuerAway(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		issuer := signintest.New(issuerURL)
		issuer.Leave(true)
		v := start(t, issuer, nil)
		began := time.Now()
		_, err := v.Verify(t.Context(), issuer.Token(ann))
		if took := time.Since(began); !errors.Is(err, signin.ErrUnavailable) || took > 5*time.Second || !strings.Contains(err.Error(), issuerURL) {
			t.Errorf("before any key: %v, after %v", err, took)
		}
		began = time.Now()
		if _, err := v.Verify(t.Context(), issuer.Token(ann)); !errors.Is(err, signin.ErrUnavailable) || time.Since(began) > 0 {
			t.Errorf("once that is known: %v, after %v", err, time.Since(began))
		}
		issuer.Leave(false)
		time.Sleep(11 * time.Second)
		if _, err := v.Verify(t.Context(), issuer.Token(ann)); err != nil {
			t.Errorf("once it is back: %v", err)
		}
		issuer.Leave(true)
		time.Sleep(23 * time.Hour)
		if _, err := v.Verify(t.Context(), issuer.Token(ann)); err != nil {
			t.Errorf("by keys of yesterday: %v", err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := v.Verify(t.Context(), issuer.Token(ann)); !errors.Is(err, signin.ErrUnavailable) {
			t.Errorf("by keys of the day before: %v", err)
		}
	})
}
