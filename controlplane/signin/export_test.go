package signin

// Usable is for tests.
var Usable = usable

// Want has a Verifier look for a key, as a call does that came to it while the
// issuer was being asked.
func (v *Verifier) Want() { v.wanted <- struct{}{} }
