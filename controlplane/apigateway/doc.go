// Package apigateway is the face that Amazon API Gateway's users know: its REST
// management API (2015-07-09, rest-json), as far as canary releases need it.
//
// It translates and decides nothing. A request becomes calls of the operators' services,
// made over a connection that leads to them (see api.Local), so permissions, audit,
// request ids and forwarding to the leader are those of every other client, and what is
// made here is what `fife` shows.
//
// The two models meet as follows.
//
//   - A REST API is an API whose id has ten random letters and digits. What only Amazon's
//     model has of it (a name that need not be unique, a version, tags, resources without
//     methods) is in the API's annotation "apigateway".
//   - A method is a draft route, one for one, a method without an integration included.
//     What only Amazon's model has of it is in the route's annotation. PutRoute replaces
//     that with the route, and an annotation that does not fit its route's integration is
//     not believed: so what is shown is always what would be deployed.
//   - Resources are the paths of routes, the paths above them, and those that were created
//     here. A resource's id is a hash of its API and path, unless it has been moved.
//   - A deployment's id is its number in six digits.
//   - A patch is evaluated on what was read and written back as one change, on condition
//     that nothing has changed meanwhile; if something has, it is evaluated anew.
//
// What Fife could only pretend to do (authorizers, caches, logging, mapping templates) is
// refused, never ignored.
package apigateway
