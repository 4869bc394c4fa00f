package admin

import (
	"fmt"
	"strings"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/shared/fault"
)

const apiPackage = "/gateway.admin.v1."

// permissions says which role a call needs, by the service's name and the method's: the one place where that is said,
// for gRPC and REST alike. A call that is not here is the administrators' alone.
func permissions() map[string]map[string]access.Role {
	return map[string]map[string]access.Role{
		"RouteConfigService": resource("Route", "Routes", map[string]access.Role{
			"EnableRoute":  access.Editor,
			"DisableRoute": access.Editor,
		}),
		"ServiceConfigService": resource("Service", "Services", map[string]access.Role{
			"ListServiceEndpoints":  access.Viewer,
			"AddServiceEndpoint":    access.Editor,
			"RemoveServiceEndpoint": access.Editor,
		}),
		"MiddlewareConfigService": resource("Middleware", "Middleware", map[string]access.Role{
			"EnableMiddleware":  access.Editor,
			"DisableMiddleware": access.Editor,
		}),
		"PipelineConfigService":    resource("Pipeline", "Pipelines", nil),
		"PolicyConfigService":      resource("Policy", "Policies", nil),
		"ConsumerConfigService":    resource("Consumer", "Consumers", nil),
		"CertificateConfigService": resource("Certificate", "Certificates", nil),
		"ConfigurationService": {
			"ApplyConfiguration":    access.Editor,
			"ValidateConfiguration": access.Viewer,
			"DiffConfiguration":     access.Viewer,
			"ExportConfiguration":   access.Viewer,
			"StreamConfiguration":   access.Viewer,
			"ListRevisions":         access.Viewer,
			"GetRevision":           access.Viewer,
			"RollbackRevision":      access.Operator,
			"PruneHistory":          access.Admin,
			"PurgeSecrets":          access.Admin,
		},
		"FleetService": {
			"ListNodes":          access.Viewer,
			"GetNode":            access.Viewer,
			"ListServiceHealth":  access.Viewer,
			"GetServiceHealth":   access.Viewer,
			"GetRevisionTraffic": access.Viewer,
		},
		"HealthService": {
			"ListCircuitBreakers":     access.Viewer,
			"ResetCircuitBreaker":     access.Operator,
			"ForceOpenCircuitBreaker": access.Operator,
		},
		"LimitService": {
			"ListLimits": access.Viewer,
			"GetLimit":   access.Viewer,
			"ResetLimit": access.Operator,
		},
		"AccessService": {
			"WhoAmI":       access.Viewer,
			"OpenSession":  access.Viewer,
			"GetSession":   access.Viewer,
			"CloseSession": access.Viewer,
			"ListTokens":   access.Admin,
			"GetToken":     access.Admin,
			"CreateToken":  access.Admin,
			"RevokeToken":  access.Admin,
		},
		"EnrolmentService": {
			"CreateJoinToken":  access.Admin,
			"ListJoinTokens":   access.Operator,
			"DeleteJoinToken":  access.Operator,
			"RevokeNode":       access.Operator,
			"ReadmitNode":      access.Admin,
			"ListRevokedNodes": access.Viewer,
		},
		"AuditService": {"ListAudit": access.Operator},
	}
}

// resource is what the calls of a kind's service need, with those that other kinds do not have.
func resource(one, many string, more map[string]access.Role) map[string]access.Role {
	calls := map[string]access.Role{"List" + many: access.Viewer, "Get" + one: access.Viewer}
	for _, verb := range []string{"Create", "Update", "Patch", "Delete"} {
		calls[verb+one] = access.Editor
	}
	for name, role := range more {
		calls[name] = role
	}
	return calls
}

// needs returns the role that a call needs, such as "/gateway.admin.v1.RouteConfigService/GetRoute".
func (s *Server) needs(fullMethod string) access.Role {
	name, ok := strings.CutPrefix(fullMethod, apiPackage)
	if !ok { // reflection, which tells what the API is like to whoever may read
		return access.Viewer
	}
	service, method, _ := strings.Cut(name, "/")
	if role, known := s.permissions[service][method]; known {
		return role
	}
	return access.Admin
}

// changes reports whether a call changes something: all do that take more than reading, but those that read what not
// everybody may.
func (s *Server) changes(fullMethod string) bool {
	method := fullMethod[strings.LastIndexByte(fullMethod, '/')+1:]
	return s.needs(fullMethod) > access.Viewer && !strings.HasPrefix(method, "List") && !strings.HasPrefix(method, "Get")
}

// ofResources reports whether a call changes what is of resources alone, so that it refuses what is outside of its
// caller's scope: by commit or checkScope. Who is confined can't make any other call that changes something.
func ofResources(fullMethod string) bool {
	service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, apiPackage), "/")
	switch service {
	case "ConfigurationService":
		return method == "ApplyConfiguration" || method == "RollbackRevision"
	case "HealthService", "LimitService":
		return true
	}
	return strings.HasSuffix(service, "ConfigService")
}

// permit refuses a call that needs another role than who makes it has, or one that is not confined.
func (s *Server) permit(id *access.Identity, fullMethod string) error {
	need := s.needs(fullMethod)
	method := fullMethod[strings.LastIndexByte(fullMethod, '/')+1:]
	if id.Role >= need {
		if !id.Scope.IsAll() && s.changes(fullMethod) && !ofResources(fullMethod) {
			return failure(fault.Forbidden, fmt.Sprintf("%s changes what has no kind and no labels; %q is confined to some",
				method, id.Name))
		}
		return nil
	}
	return failure(fault.Forbidden, fmt.Sprintf("%s takes the role %s; %q has the role %s",
		method, need, id.Name, id.Role))
}
