// Package access says who may do what: permissions, the roles that have them, and
// bindings, which give roles to subjects for some APIs and stages. Everything here is
// pure, so that a node decides before a change goes into the log as all nodes decide
// once more when it is applied. What nobody has been given is denied.
package access

import "slices"

// Permission is what one must have to call a method.
type Permission string

// The permissions.
const (
	APIsRead       Permission = "apis.read"          // read APIs, drafts and deployments
	APIsEdit       Permission = "apis.edit"          // change a draft's routes, and freeze it into deployments
	APIsManage     Permission = "apis.manage"        // make, change and remove APIs
	StagesRead     Permission = "stages.read"        // read stages and their history
	StagesDeploy   Permission = "stages.deploy"      // put deployments and canaries on a stage
	StagesPromote  Permission = "stages.promote"     // promote canaries, let promotions go on, roll back
	StagesAbort    Permission = "stages.abort"       // take a canary off a stage, end a promotion that is not committed
	StagesManage   Permission = "stages.manage"      // make, change and remove stages
	BreakGlass     Permission = "stages.break-glass" // promote past waves, open promotions and the rule of the second pair of eyes
	FleetRead      Permission = "fleet.read"         // see agents
	ClusterRead    Permission = "cluster.read"       // see the cluster's nodes
	ClusterManage  Permission = "cluster.manage"     // remove nodes, move leadership, compare nodes
	ClusterBackup  Permission = "cluster.backup"     // read all there is as a backup
	ClusterRestore Permission = "cluster.restore"    // replace all there is by a backup
	AccessRead     Permission = "access.read"        // see bindings and tokens
	AccessManage   Permission = "access.manage"      // give and take roles; make and remove tokens
	AuditRead      Permission = "audit.read"         // read the audit
)

// Role is a set of permissions with a name.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"
	Deployer Role = "deployer"
	Promoter Role = "promoter"
	Operator Role = "operator"
	Admin    Role = "admin"
)

var (
	viewing   = []Permission{APIsRead, StagesRead, FleetRead, ClusterRead}
	deploying = []Permission{APIsEdit, StagesDeploy, StagesAbort}
	promoting = []Permission{StagesPromote, StagesAbort}
	operating = []Permission{APIsManage, StagesManage, ClusterManage, ClusterBackup}
	governing = []Permission{BreakGlass, ClusterRestore, AccessRead, AccessManage, AuditRead}
)

var roles = map[Role][]Permission{
	Viewer:   viewing,
	Deployer: slices.Concat(viewing, deploying),
	Promoter: slices.Concat(viewing, promoting),
	Operator: slices.Concat(viewing, deploying, promoting, operating),
	Admin:    slices.Concat(viewing, deploying, promoting, operating, governing),
}

// order is that of the roles, the one with the least permissions first.
var order = []Role{Viewer, Deployer, Promoter, Operator, Admin}

// Roles returns all roles, the one with the least permissions first.
func Roles() []Role { return slices.Clone(order) }

// Permissions returns all permissions in order of their names.
func Permissions() []Permission {
	return slices.Compact(slices.Sorted(slices.Values(roles[Admin])))
}

// Has reports whether the role is known and has a permission.
func (r Role) Has(p Permission) bool { return slices.Contains(roles[r], p) }

// known reports whether there is such a role.
func (r Role) known() bool { return slices.Contains(order, r) }

// rolesWith returns the roles that have a permission.
func rolesWith(p Permission) []Role {
	return slices.DeleteFunc(Roles(), func(r Role) bool { return !r.Has(p) })
}
