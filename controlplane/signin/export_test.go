package signin

// Usable is for tests.
var Usable = usable
