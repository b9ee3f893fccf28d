// Package route decides where a request goes. It is pure: no I/O, no clock, no
// randomness, no locks.
//
// A state comes in as plain values and becomes a Table, in two steps because
// their prices differ:
//
//	routes of a deployment --CompileDeployment--> *Deployment   once, some ms
//	APIs, stages, *Deployments ------Compile----> *Table        at every change, some µs
//
// A promotion or a new weight changes a stage and no route, so it costs a new
// Table around the Deployments that are there. Both steps hold all validation
// there is: what they accept can be served, and what they refuse must not be.
//
// A request then takes three steps, none of which allocates:
//
//	stage, rest, ok := table.Lookup(host, "/prod/pets/7", "")  // rest is "/pets/7"
//	variant := stage.Pick(rand.Uint64())                       // or stage.Pick(stage.Hash(key))
//	route := variant.Match("GET", rest, &params)               // params: id = 7
//
// Tables, and all that hangs from them, never change after they are made. Any
// number of goroutines may use one, and a request that began with a Table ends
// with it, whatever has been published since.
package route
