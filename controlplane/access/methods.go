package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Method says who may call a method: whoever the connection may belong to, and what
// permission a user must have on what.
type Method struct {
	// Anyone may call it, known or not.
	Anyone bool
	// Agents may call it.
	Agents bool
	// Servers may call it for themselves.
	Servers bool
	// Users may call it: with the permission, or without any if it is empty.
	Users      bool
	Permission Permission

	// What the permission must be held on. Name is the path of the request's field
	// with the name of an API, or of something in it; API and Stage are paths of fields
	// with ids, which take the place of what Name says. Whole means the API with all
	// its stages. Without any, it is everything; with Some, anything will do, and the
	// answer holds no more than the caller may see.
	Name, API, Stage string
	Whole, Some      bool

	// Instead says what is needed in the place of all that if a request sets certain
	// fields; of several the last counts.
	Instead []Instead
}

// Instead is the permission that a request needs which sets the field When; if that is
// a list of texts, one with others than those of Except. Whole means the API with all
// its stages, as of a Method.
type Instead struct {
	When       string
	Except     []string
	Permission Permission
	Whole      bool
}

func on(name string, p Permission) Method { return Method{Users: true, Permission: p, Name: name} }

var (
	serversOnly = Method{Servers: true}
	agentsOnly  = Method{Agents: true}
	anyone      = Method{Anyone: true}
	fleet       = Method{Users: true, Servers: true, Permission: FleetRead, Some: true}
	cluster     = Method{Users: true, Servers: true, Permission: ClusterRead, Some: true}
)

// methods has a row for every method of a node. A method without a row is refused,
// and keeps a node from starting.
var methods = map[string]Method{
	"/fife.v1.ApiService/CreateApi":   {Users: true, Permission: APIsManage, API: "api_id", Whole: true},
	"/fife.v1.ApiService/GetApi":      on("name", APIsRead),
	"/fife.v1.ApiService/ListApis":    {Users: true, Permission: APIsRead, Some: true},
	"/fife.v1.ApiService/UpdateApi":   {Users: true, Permission: APIsManage, Name: "api.name", Whole: true},
	"/fife.v1.ApiService/DeleteApi":   {Users: true, Permission: APIsManage, Name: "name", Whole: true},
	"/fife.v1.ApiService/PutRoute":    on("parent", APIsEdit),
	"/fife.v1.ApiService/ListRoutes":  on("parent", APIsRead),
	"/fife.v1.ApiService/DeleteRoute": on("parent", APIsEdit),

	"/fife.v1.ApiService/EditRoutes": {
		Users: true, Permission: APIsEdit, Name: "parent", Instead: []Instead{{When: "update_mask", Permission: APIsManage, Whole: true}},
	},
	"/fife.v1.ApiService/ImportRoutes": {
		Users: true, Permission: APIsEdit, Name: "parent", Instead: []Instead{{When: "allow_missing", Permission: APIsManage, Whole: true}},
	},
	"/fife.v1.ApiService/ExportRoutes": on("parent", APIsRead),

	"/fife.v1.DeploymentService/CreateDeployment": {
		Users: true, Permission: APIsEdit, Name: "parent", Stage: "stage_id", Instead: []Instead{
			{When: "stage_id", Permission: StagesDeploy},
			// Whoever deploys may open a canary; all else is set by UpdateStage, too.
			{When: "stage_mask.paths", Except: []string{"canary"}, Permission: StagesManage},
		},
	},
	"/fife.v1.DeploymentService/GetDeployment":        on("name", APIsRead),
	"/fife.v1.DeploymentService/ListDeployments":      on("parent", APIsRead),
	"/fife.v1.DeploymentService/ListDeploymentRoutes": on("parent", APIsRead),
	"/fife.v1.DeploymentService/DeleteDeployment":     on("name", APIsEdit),

	"/fife.v1.StageService/CreateStage":  {Users: true, Permission: StagesManage, Name: "parent", Stage: "stage_id"},
	"/fife.v1.StageService/GetStage":     on("name", StagesRead),
	"/fife.v1.StageService/ListStages":   {Users: true, Permission: StagesRead, Some: true},
	"/fife.v1.StageService/UpdateStage":  on("stage.name", StagesManage),
	"/fife.v1.StageService/DeleteStage":  on("name", StagesManage),
	"/fife.v1.StageService/StartCanary":  on("name", StagesDeploy),
	"/fife.v1.StageService/UpdateCanary": on("name", StagesDeploy),
	"/fife.v1.StageService/AbortCanary":  on("name", StagesAbort),
	"/fife.v1.StageService/PromoteCanary": {
		Users: true, Permission: StagesPromote, Name: "name", Instead: []Instead{{When: "break_glass", Permission: BreakGlass}},
	},
	"/fife.v1.StageService/AbortPromotion":     on("name", StagesAbort),
	"/fife.v1.StageService/ResumePromotion":    on("name", StagesPromote),
	"/fife.v1.StageService/WatchStage":         on("name", StagesRead),
	"/fife.v1.StageService/RollbackStage":      on("name", StagesPromote),
	"/fife.v1.StageService/ListStageRevisions": on("parent", StagesRead),
	"/fife.v1.StageService/ExplainSplit":       on("name", StagesRead),

	"/fife.v1.FleetService/ListAgents":     fleet,
	"/fife.v1.FleetService/GetAgent":       fleet,
	"/fife.v1.FleetService/WaitForVersion": fleet,

	"/fife.v1.ClusterService/GetCluster":         cluster,
	"/fife.v1.ClusterService/ListMembers":        cluster,
	"/fife.v1.ClusterService/JoinCluster":        {Users: true, Servers: true, Permission: ClusterManage},
	"/fife.v1.ClusterService/PromoteMember":      {Users: true, Servers: true, Permission: ClusterManage},
	"/fife.v1.ClusterService/SyncCluster":        cluster,
	"/fife.v1.ClusterService/GetStateHash":       serversOnly,
	"/fife.v1.ClusterService/RemoveMember":       {Users: true, Permission: ClusterManage},
	"/fife.v1.ClusterService/TransferLeadership": {Users: true, Permission: ClusterManage},
	"/fife.v1.ClusterService/VerifyCluster":      {Users: true, Permission: ClusterManage},
	"/fife.v1.ClusterService/BackupCluster":      {Users: true, Permission: ClusterBackup},
	"/fife.v1.ClusterService/RestoreCluster":     {Users: true, Permission: ClusterRestore},

	"/fife.v1.AccessService/CreateBinding":      {Users: true, Permission: AccessManage, API: "binding.api", Stage: "binding.stage"},
	"/fife.v1.AccessService/ListBindings":       {Users: true, Permission: AccessRead},
	"/fife.v1.AccessService/DeleteBinding":      {Users: true, Permission: AccessManage, API: "binding.api", Stage: "binding.stage"},
	"/fife.v1.AccessService/CreateUserToken":    {Users: true, Permission: AccessManage},
	"/fife.v1.AccessService/ListUserTokens":     {Users: true, Permission: AccessRead},
	"/fife.v1.AccessService/DeleteUserToken":    {Users: true, Permission: AccessManage},
	"/fife.v1.AccessKeyService/CreateAccessKey": {Users: true, Permission: AccessManage},
	"/fife.v1.AccessKeyService/ListAccessKeys":  {Users: true, Permission: AccessRead},
	"/fife.v1.AccessKeyService/DeleteAccessKey": {Users: true, Permission: AccessManage},

	"/fife.v1.AccessService/WhoAmI":          {Users: true},
	"/fife.v1.AccessService/TestPermissions": {Users: true},

	"/fife.v1.AuditService/ListAuditEntries": {Users: true, Permission: AuditRead},
	"/fife.v1.AuditService/VerifyAudit":      {Users: true, Permission: AuditRead},

	"/fife.v1.CertificateService/CreateCertificate": {Users: true, Permission: AccessManage},
	"/fife.v1.CertificateService/ListCertificates":  {Users: true, Permission: AccessRead},
	"/fife.v1.AuthorityService/GetAuthority":        {Users: true, Permission: AccessRead},
	"/fife.v1.AuthorityService/PrepareRotation":     {Users: true, Permission: AccessManage},
	"/fife.v1.AuthorityService/StartRotation":       {Users: true, Permission: AccessManage},
	"/fife.v1.AuthorityService/SwitchRotation":      {Users: true, Permission: AccessManage},
	"/fife.v1.AuthorityService/RetireRoot":          {Users: true, Permission: AccessManage},
	"/fife.v1.AuthorityService/AbortRotation":       {Users: true, Permission: AccessManage},
	"/fife.v1.AuthorityService/RotateClusterKey":    {Users: true, Permission: AccessManage},
	"/fife.v1.AuthorityService/ReportTrust":         serversOnly,
	"/fife.v1.AuthorityService/GetClusterKeys":      serversOnly,

	"/fife.v1.CertificateService/RevokeCertificate": {Users: true, Permission: AccessManage},
	"/fife.v1.TokenService/CreateToken":             {Users: true, Permission: AccessManage},
	"/fife.v1.TokenService/DeleteToken":             {Users: true, Permission: AccessManage},
	"/fife.v1.TokenService/ListTokens":              {Users: true, Permission: AccessRead},
	"/fife.v1.JoinService/IssueCertificate":         anyone, // who joins is known by a token alone
	"/fife.v1.SignInService/GetSignInSettings":      anyone, // who is about to sign in is not known

	"/fife.v1.NodeService/RenewGrant":     serversOnly,
	"/fife.v1.NodeService/RegisterAgents": serversOnly,
	"/fife.v1.NodeService/ReportAgents":   serversOnly,
	"/fife.v1.NodeService/RecordCalls":    serversOnly,

	"/fife.discovery.v1.DiscoveryService/Stream": agentsOnly,

	"/grpc.health.v1.Health/Check": anyone,
	"/grpc.health.v1.Health/List":  anyone,
	"/grpc.health.v1.Health/Watch": anyone,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {Users: true},
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {Users: true},
}

// MethodOf returns the row of a method, by its name as gRPC spells it. What differs
// from that by a character has none.
func MethodOf(fullMethod string) (Method, bool) {
	m, ok := methods[fullMethod]
	return m, ok
}

// CheckMethods returns an error that names the methods without a row, or nil.
func CheckMethods(fullMethods []string) error {
	var missing []string
	for _, name := range fullMethods {
		if _, ok := methods[name]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("nobody has said who may call %s", strings.Join(missing, ", "))
	}
	return nil
}

// Methods returns the names of all methods that have a row.
func Methods() []string { return slices.Sorted(maps.Keys(methods)) }

// Needs returns the permission that a request needs, and on what. field returns a
// text field of the request by its path; set whether a field is set, or a list has
// others than some texts. A name that is not one of a resource needs the permission on
// everything: whose it is, is not known.
func (m Method) Needs(field func(path string) string, set func(path string, except []string) bool) (Permission, Resource) {
	permission, whole, stageOptional := m.Permission, m.Whole, false
	for _, i := range m.Instead {
		if set(i.When, i.Except) {
			permission, whole = i.Permission, i.Whole
		}
		stageOptional = stageOptional || i.When == m.Stage
	}
	switch {
	case m.Some:
		return permission, Resource{}
	case m.Name == "" && m.API == "":
		return permission, Everything
	}
	var r Resource
	if m.Name != "" {
		var ok bool
		if r, ok = parseName(field(m.Name)); !ok {
			return permission, Everything
		}
	}
	if m.API != "" {
		if r.API = field(m.API); r.API == "" {
			return permission, Everything
		}
	}
	if m.Stage != "" {
		r.Stage = field(m.Stage)
		if r.Stage == "" && !stageOptional {
			return permission, Everything
		}
	}
	if whole {
		r.Stage = "*"
	}
	return permission, r
}

// parseName reads the name of an API, or of something in one.
func parseName(name string) (Resource, bool) {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || parts[0] != "apis" || slices.Contains(parts, "") {
		return Resource{}, false
	}
	r := Resource{API: parts[1]}
	switch {
	case len(parts) == 2:
		return r, true
	case len(parts) == 4 && parts[2] == "stages":
		r.Stage = parts[3]
		return r, true
	case len(parts) == 4 && parts[2] == "deployments":
		return r, true
	}
	return Resource{}, false
}
