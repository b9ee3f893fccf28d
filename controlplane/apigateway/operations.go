package apigateway

import (
	"net/http"
	"net/url"
	"strings"
)

// operation is one operation of the service. Without a handler it is known and refused.
type operation struct {
	name, method string
	pattern      string // path; a segment in braces is a parameter
	imports      bool   // only with the query mode=import
	document     bool   // its body is a whole OpenAPI document
	handle       func(*Gateway, *call) (answer, error)
}

// findOperation returns the operation that a request is for, and the values of its path
// parameters. Segments are told apart before they are decoded, so that a value may hold
// an encoded slash.
func findOperation(r *http.Request) (*operation, []string, bool) {
	segments := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	if len(segments) > 2 && segments[0] == "tags" { // an ARN whose slashes were not encoded
		segments = []string{"tags", strings.Join(segments[1:], "%2F")}
	}
	imports := r.URL.Query().Get("mode") == "import"
	for i := range operations {
		op := &operations[i]
		if op.method != r.Method || (op.imports && !imports) {
			continue
		}
		if params, ok := matchPattern(op.pattern, segments); ok {
			return op, params, true
		}
	}
	return nil, nil, false
}

func matchPattern(pattern string, segments []string) (params []string, ok bool) {
	wanted := strings.Split(pattern[1:], "/")
	if len(wanted) != len(segments) {
		return nil, false
	}
	for i, w := range wanted {
		if !strings.HasPrefix(w, "{") {
			if w != segments[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil || value == "" {
			return nil, false
		}
		params = append(params, value)
	}
	return params, true
}

// operations are all operations of the service. One with mode=import stands before the
// one with the same path.
var operations = []operation{
	{name: "ImportApiKeys", method: "POST", pattern: "/apikeys", imports: true},
	{name: "ImportRestApi", method: "POST", pattern: "/restapis", imports: true, document: true, handle: (*Gateway).importRestAPI},
	{name: "CreateApiKey", method: "POST", pattern: "/apikeys"},
	{name: "CreateAuthorizer", method: "POST", pattern: "/restapis/{restapi_id}/authorizers"},
	{name: "CreateBasePathMapping", method: "POST", pattern: "/domainnames/{domain_name}/basepathmappings"},
	{name: "CreateDeployment", method: "POST", pattern: "/restapis/{restapi_id}/deployments", handle: (*Gateway).createDeployment},
	{name: "CreateDocumentationPart", method: "POST", pattern: "/restapis/{restapi_id}/documentation/parts"},
	{name: "CreateDocumentationVersion", method: "POST", pattern: "/restapis/{restapi_id}/documentation/versions"},
	{name: "CreateDomainName", method: "POST", pattern: "/domainnames"},
	{name: "CreateDomainNameAccessAssociation", method: "POST", pattern: "/domainnameaccessassociations"},
	{name: "CreateModel", method: "POST", pattern: "/restapis/{restapi_id}/models"},
	{name: "CreateRequestValidator", method: "POST", pattern: "/restapis/{restapi_id}/requestvalidators"},
	{name: "CreateResource", method: "POST", pattern: "/restapis/{restapi_id}/resources/{parent_id}", handle: (*Gateway).createResource},
	{name: "CreateRestApi", method: "POST", pattern: "/restapis", handle: (*Gateway).createRestAPI},
	{name: "CreateStage", method: "POST", pattern: "/restapis/{restapi_id}/stages", handle: (*Gateway).createStage},
	{name: "CreateUsagePlan", method: "POST", pattern: "/usageplans"},
	{name: "CreateUsagePlanKey", method: "POST", pattern: "/usageplans/{usageplanId}/keys"},
	{name: "CreateVpcLink", method: "POST", pattern: "/vpclinks"},
	{name: "DeleteApiKey", method: "DELETE", pattern: "/apikeys/{api_Key}"},
	{name: "DeleteAuthorizer", method: "DELETE", pattern: "/restapis/{restapi_id}/authorizers/{authorizer_id}"},
	{name: "DeleteBasePathMapping", method: "DELETE", pattern: "/domainnames/{domain_name}/basepathmappings/{base_path}"},
	{name: "DeleteClientCertificate", method: "DELETE", pattern: "/clientcertificates/{clientcertificate_id}"},
	{name: "DeleteDeployment", method: "DELETE", pattern: "/restapis/{restapi_id}/deployments/{deployment_id}", handle: (*Gateway).deleteDeployment},
	{name: "DeleteDocumentationPart", method: "DELETE", pattern: "/restapis/{restapi_id}/documentation/parts/{part_id}"},
	{name: "DeleteDocumentationVersion", method: "DELETE", pattern: "/restapis/{restapi_id}/documentation/versions/{doc_version}"},
	{name: "DeleteDomainName", method: "DELETE", pattern: "/domainnames/{domain_name}"},
	{name: "DeleteDomainNameAccessAssociation", method: "DELETE", pattern: "/domainnameaccessassociations/{domain_name_access_association_arn}"},
	{name: "DeleteGatewayResponse", method: "DELETE", pattern: "/restapis/{restapi_id}/gatewayresponses/{response_type}"},
	{name: "DeleteIntegration", method: "DELETE", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/integration", handle: (*Gateway).deleteIntegration},
	{name: "DeleteIntegrationResponse", method: "DELETE", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/integration/responses/{status_code}", handle: (*Gateway).deleteIntegrationResponse},
	{name: "DeleteMethod", method: "DELETE", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}", handle: (*Gateway).deleteMethod},
	{name: "DeleteMethodResponse", method: "DELETE", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/responses/{status_code}", handle: (*Gateway).deleteMethodResponse},
	{name: "DeleteModel", method: "DELETE", pattern: "/restapis/{restapi_id}/models/{model_name}"},
	{name: "DeleteRequestValidator", method: "DELETE", pattern: "/restapis/{restapi_id}/requestvalidators/{requestvalidator_id}"},
	{name: "DeleteResource", method: "DELETE", pattern: "/restapis/{restapi_id}/resources/{resource_id}", handle: (*Gateway).deleteResource},
	{name: "DeleteRestApi", method: "DELETE", pattern: "/restapis/{restapi_id}", handle: (*Gateway).deleteRestAPI},
	{name: "DeleteStage", method: "DELETE", pattern: "/restapis/{restapi_id}/stages/{stage_name}", handle: (*Gateway).deleteStage},
	{name: "DeleteUsagePlan", method: "DELETE", pattern: "/usageplans/{usageplanId}"},
	{name: "DeleteUsagePlanKey", method: "DELETE", pattern: "/usageplans/{usageplanId}/keys/{keyId}"},
	{name: "DeleteVpcLink", method: "DELETE", pattern: "/vpclinks/{vpclink_id}"},
	{name: "FlushStageAuthorizersCache", method: "DELETE", pattern: "/restapis/{restapi_id}/stages/{stage_name}/cache/authorizers"},
	{name: "FlushStageCache", method: "DELETE", pattern: "/restapis/{restapi_id}/stages/{stage_name}/cache/data"},
	{name: "GenerateClientCertificate", method: "POST", pattern: "/clientcertificates"},
	{name: "GetAccount", method: "GET", pattern: "/account", handle: (*Gateway).getAccount},
	{name: "GetApiKey", method: "GET", pattern: "/apikeys/{api_Key}"},
	{name: "GetApiKeys", method: "GET", pattern: "/apikeys", handle: (*Gateway).none},
	{name: "GetAuthorizer", method: "GET", pattern: "/restapis/{restapi_id}/authorizers/{authorizer_id}"},
	{name: "GetAuthorizers", method: "GET", pattern: "/restapis/{restapi_id}/authorizers", handle: (*Gateway).noneOfAPI},
	{name: "GetBasePathMapping", method: "GET", pattern: "/domainnames/{domain_name}/basepathmappings/{base_path}"},
	{name: "GetBasePathMappings", method: "GET", pattern: "/domainnames/{domain_name}/basepathmappings"},
	{name: "GetClientCertificate", method: "GET", pattern: "/clientcertificates/{clientcertificate_id}"},
	{name: "GetClientCertificates", method: "GET", pattern: "/clientcertificates", handle: (*Gateway).none},
	{name: "GetDeployment", method: "GET", pattern: "/restapis/{restapi_id}/deployments/{deployment_id}", handle: (*Gateway).getDeployment},
	{name: "GetDeployments", method: "GET", pattern: "/restapis/{restapi_id}/deployments", handle: (*Gateway).getDeployments},
	{name: "GetDocumentationPart", method: "GET", pattern: "/restapis/{restapi_id}/documentation/parts/{part_id}"},
	{name: "GetDocumentationParts", method: "GET", pattern: "/restapis/{restapi_id}/documentation/parts", handle: (*Gateway).noneOfAPI},
	{name: "GetDocumentationVersion", method: "GET", pattern: "/restapis/{restapi_id}/documentation/versions/{doc_version}"},
	{name: "GetDocumentationVersions", method: "GET", pattern: "/restapis/{restapi_id}/documentation/versions", handle: (*Gateway).noneOfAPI},
	{name: "GetDomainName", method: "GET", pattern: "/domainnames/{domain_name}"},
	{name: "GetDomainNameAccessAssociations", method: "GET", pattern: "/domainnameaccessassociations", handle: (*Gateway).none},
	{name: "GetDomainNames", method: "GET", pattern: "/domainnames", handle: (*Gateway).none},
	{name: "GetExport", method: "GET", pattern: "/restapis/{restapi_id}/stages/{stage_name}/exports/{export_type}", handle: (*Gateway).getExport},
	{name: "GetGatewayResponse", method: "GET", pattern: "/restapis/{restapi_id}/gatewayresponses/{response_type}"},
	{name: "GetGatewayResponses", method: "GET", pattern: "/restapis/{restapi_id}/gatewayresponses"},
	{name: "GetIntegration", method: "GET", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/integration", handle: (*Gateway).getIntegration},
	{name: "GetIntegrationResponse", method: "GET", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/integration/responses/{status_code}", handle: (*Gateway).getIntegrationResponse},
	{name: "GetMethod", method: "GET", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}", handle: (*Gateway).getMethod},
	{name: "GetMethodResponse", method: "GET", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/responses/{status_code}", handle: (*Gateway).getMethodResponse},
	{name: "GetModel", method: "GET", pattern: "/restapis/{restapi_id}/models/{model_name}"},
	{name: "GetModelTemplate", method: "GET", pattern: "/restapis/{restapi_id}/models/{model_name}/default_template"},
	{name: "GetModels", method: "GET", pattern: "/restapis/{restapi_id}/models"},
	{name: "GetRequestValidator", method: "GET", pattern: "/restapis/{restapi_id}/requestvalidators/{requestvalidator_id}"},
	{name: "GetRequestValidators", method: "GET", pattern: "/restapis/{restapi_id}/requestvalidators", handle: (*Gateway).noneOfAPI},
	{name: "GetResource", method: "GET", pattern: "/restapis/{restapi_id}/resources/{resource_id}", handle: (*Gateway).getResource},
	{name: "GetResources", method: "GET", pattern: "/restapis/{restapi_id}/resources", handle: (*Gateway).getResources},
	{name: "GetRestApi", method: "GET", pattern: "/restapis/{restapi_id}", handle: (*Gateway).getRestAPI},
	{name: "GetRestApis", method: "GET", pattern: "/restapis", handle: (*Gateway).getRestAPIs},
	{name: "GetSdk", method: "GET", pattern: "/restapis/{restapi_id}/stages/{stage_name}/sdks/{sdk_type}"},
	{name: "GetSdkType", method: "GET", pattern: "/sdktypes/{sdktype_id}"},
	{name: "GetSdkTypes", method: "GET", pattern: "/sdktypes"},
	{name: "GetStage", method: "GET", pattern: "/restapis/{restapi_id}/stages/{stage_name}", handle: (*Gateway).getStage},
	{name: "GetStages", method: "GET", pattern: "/restapis/{restapi_id}/stages", handle: (*Gateway).getStages},
	{name: "GetTags", method: "GET", pattern: "/tags/{resource_arn}", handle: (*Gateway).getTags},
	{name: "GetUsage", method: "GET", pattern: "/usageplans/{usageplanId}/usage"},
	{name: "GetUsagePlan", method: "GET", pattern: "/usageplans/{usageplanId}"},
	{name: "GetUsagePlanKey", method: "GET", pattern: "/usageplans/{usageplanId}/keys/{keyId}"},
	{name: "GetUsagePlanKeys", method: "GET", pattern: "/usageplans/{usageplanId}/keys"},
	{name: "GetUsagePlans", method: "GET", pattern: "/usageplans", handle: (*Gateway).none},
	{name: "GetVpcLink", method: "GET", pattern: "/vpclinks/{vpclink_id}"},
	{name: "GetVpcLinks", method: "GET", pattern: "/vpclinks", handle: (*Gateway).none},
	{name: "ImportDocumentationParts", method: "PUT", pattern: "/restapis/{restapi_id}/documentation/parts"},
	{name: "PutGatewayResponse", method: "PUT", pattern: "/restapis/{restapi_id}/gatewayresponses/{response_type}"},
	{name: "PutIntegration", method: "PUT", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/integration", handle: (*Gateway).putIntegration},
	{name: "PutIntegrationResponse", method: "PUT", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/integration/responses/{status_code}", handle: (*Gateway).putIntegrationResponse},
	{name: "PutMethod", method: "PUT", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}", handle: (*Gateway).putMethod},
	{name: "PutMethodResponse", method: "PUT", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/responses/{status_code}", handle: (*Gateway).putMethodResponse},
	{name: "PutRestApi", method: "PUT", pattern: "/restapis/{restapi_id}", document: true, handle: (*Gateway).putRestAPI},
	{name: "RejectDomainNameAccessAssociation", method: "POST", pattern: "/rejectdomainnameaccessassociations"},
	{name: "TagResource", method: "PUT", pattern: "/tags/{resource_arn}", handle: (*Gateway).tagResource},
	{name: "TestInvokeAuthorizer", method: "POST", pattern: "/restapis/{restapi_id}/authorizers/{authorizer_id}"},
	{name: "TestInvokeMethod", method: "POST", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}"},
	{name: "UntagResource", method: "DELETE", pattern: "/tags/{resource_arn}", handle: (*Gateway).untagResource},
	{name: "UpdateAccount", method: "PATCH", pattern: "/account"},
	{name: "UpdateApiKey", method: "PATCH", pattern: "/apikeys/{api_Key}"},
	{name: "UpdateAuthorizer", method: "PATCH", pattern: "/restapis/{restapi_id}/authorizers/{authorizer_id}"},
	{name: "UpdateBasePathMapping", method: "PATCH", pattern: "/domainnames/{domain_name}/basepathmappings/{base_path}"},
	{name: "UpdateClientCertificate", method: "PATCH", pattern: "/clientcertificates/{clientcertificate_id}"},
	{name: "UpdateDeployment", method: "PATCH", pattern: "/restapis/{restapi_id}/deployments/{deployment_id}", handle: (*Gateway).updateDeployment},
	{name: "UpdateDocumentationPart", method: "PATCH", pattern: "/restapis/{restapi_id}/documentation/parts/{part_id}"},
	{name: "UpdateDocumentationVersion", method: "PATCH", pattern: "/restapis/{restapi_id}/documentation/versions/{doc_version}"},
	{name: "UpdateDomainName", method: "PATCH", pattern: "/domainnames/{domain_name}"},
	{name: "UpdateGatewayResponse", method: "PATCH", pattern: "/restapis/{restapi_id}/gatewayresponses/{response_type}"},
	{name: "UpdateIntegration", method: "PATCH", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/integration", handle: (*Gateway).updateIntegration},
	{name: "UpdateIntegrationResponse", method: "PATCH", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/integration/responses/{status_code}", handle: (*Gateway).updateIntegrationResponse},
	{name: "UpdateMethod", method: "PATCH", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}", handle: (*Gateway).updateMethod},
	{name: "UpdateMethodResponse", method: "PATCH", pattern: "/restapis/{restapi_id}/resources/{resource_id}/methods/{http_method}/responses/{status_code}", handle: (*Gateway).updateMethodResponse},
	{name: "UpdateModel", method: "PATCH", pattern: "/restapis/{restapi_id}/models/{model_name}"},
	{name: "UpdateRequestValidator", method: "PATCH", pattern: "/restapis/{restapi_id}/requestvalidators/{requestvalidator_id}"},
	{name: "UpdateResource", method: "PATCH", pattern: "/restapis/{restapi_id}/resources/{resource_id}", handle: (*Gateway).updateResource},
	{name: "UpdateRestApi", method: "PATCH", pattern: "/restapis/{restapi_id}", handle: (*Gateway).updateRestAPI},
	{name: "UpdateStage", method: "PATCH", pattern: "/restapis/{restapi_id}/stages/{stage_name}", handle: (*Gateway).updateStage},
	{name: "UpdateUsage", method: "PATCH", pattern: "/usageplans/{usageplanId}/keys/{keyId}/usage"},
	{name: "UpdateUsagePlan", method: "PATCH", pattern: "/usageplans/{usageplanId}"},
	{name: "UpdateVpcLink", method: "PATCH", pattern: "/vpclinks/{vpclink_id}"},
}
