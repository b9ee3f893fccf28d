package identity

import "context"

// key is the context key of the verified caller.
type key struct{}

// NewContext returns ctx with the caller that was verified on its connection. Only
// what has verified a certificate, a bearer token or a server's word may call it.
func NewContext(ctx context.Context, caller Identity) context.Context {
	return context.WithValue(ctx, key{}, caller)
}

// FromContext returns the verified caller of ctx, or false for a caller that nobody
// has verified: on a plaintext port, or one who brought no credential.
func FromContext(ctx context.Context) (Identity, bool) {
	caller, ok := ctx.Value(key{}).(Identity)
	return caller, ok
}
