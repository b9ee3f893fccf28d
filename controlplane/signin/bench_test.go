package signin_test

import (
	"testing"

	"github.com/fifegateway/fife/controlplane/signin/signintest"
)

// BenchmarkVerify is what every call with a token costs.
func BenchmarkVerify(b *testing.B) {
	issuer := signintest.New(issuerURL)
	v := start(b, issuer, nil)
	token := issuer.Token(ann)
	if _, err := v.Verify(b.Context(), token); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
