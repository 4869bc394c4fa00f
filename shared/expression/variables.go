package expression

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
)

// variable is one that expressions may have. Names with dots are variables of their own, so that none but those that an
// expression has are ever looked at.
type variable struct {
	name  string
	kind  *cel.Type
	about string
	// most is the most characters, or elements; 0: the value has no size. each is the most characters of an element.
	most, each uint64
}

// The sizes that what clients send is taken to have at the most, by which costs are estimated: somewhat more than nodes
// take unless their flags say otherwise.
const (
	mostText   = 16 << 10
	mostName   = 256
	mostFields = 128
	mostNames  = 512
	mostClaims = 1024
)

var variables = []variable{
	{"request.method", cel.StringType, "the method, such as GET", 32, 0},
	{"request.path", cel.StringType, "the path, as the route sees it", mostText, 0},
	{"request.host", cel.StringType, "the host, with its port where that was sent", mostName, 0},
	{"request.scheme", cel.StringType, "http or https: the client's", 8, 0},
	{
		"request.headers", cel.MapType(cel.StringType, cel.StringType),
		"fields by their names in lower case; the values of one that is there several times have a comma between them",
		mostFields, mostText,
	},
	{
		"request.query", cel.MapType(cel.StringType, cel.StringType),
		"parameters of the query, decoded; the values of one that is there several times have a comma between them",
		mostNames, mostText,
	},
	{"request.size", cel.IntType, "the length of the body in bytes; -1 where that is not known before its end", 0, 0},
	{"identity.authenticated", cel.BoolType, "whether it is known who sends the request", 0, 0},
	{"identity.consumer", cel.StringType, "the consumer's name; empty: none", mostName, 0},
	{"identity.scheme", cel.StringType, "how it was authenticated, such as Bearer; empty: by no field", 64, 0},
	{"identity.groups", cel.ListType(cel.StringType), "the groups of who sends it", mostNames, mostName},
	{"identity.scopes", cel.ListType(cel.StringType), "the scopes of who sends it", mostNames, mostName},
	{"identity.claims", cel.MapType(cel.StringType, cel.DynType), "what its token says", mostClaims, mostText},
	{"client.address", cel.StringType, "the client's IP address", 64, 0},
	{"client.port", cel.IntType, "the client's port; 0 where proxies before the node do not say", 0, 0},
	{"client.tls.version", cel.StringType, "such as TLSv1.3; empty: no TLS", 16, 0},
	{"client.tls.server_name", cel.StringType, "the name that the client asked for", mostName, 0},
	{"client.tls.subject", cel.StringType, "the subject of the client's certificate", mostText, 0},
	{"client.tls.issuer", cel.StringType, "the issuer of the client's certificate", mostText, 0},
	{"client.tls.san", cel.StringType, "the alternative names of the client's certificate, as DNS:a.example,URI:b",
		mostText, 0},
	{"client.tls.serial", cel.StringType, "the serial number of the client's certificate in hexadecimal", 64, 0},
	{"client.tls.fingerprint", cel.StringType, "the SHA-256 of the client's certificate in hexadecimal", 64, 0},
	{"now", cel.TimestampType, "when the request came", 0, 0},
}

// Names returns the names of the variables that begin with a text, in the order of the alphabet, with commas between
// them.
func Names(prefix string) string {
	var names []string
	for _, v := range variables {
		if strings.HasPrefix(v.name, prefix) {
			names = append(names, v.name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// estimator tells how large variables are at the most.
type estimator struct{}

// EstimateCallCost implements cost.Estimator.
func (estimator) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// EstimateSize implements cost.Estimator.
func (estimator) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		return nil
	}
	for _, v := range variables {
		if v.name != path[0] {
			continue
		}
		most := v.most
		if len(path) > 1 { // an element, or what is in one
			if most = v.each; path[len(path)-1] == "@keys" {
				most = mostName
			}
		}
		size := cost.RangedSizeEstimate(0, most)
		if v.name == "identity.claims" && len(path) > 1 {
			size = cost.RangedSizeEstimate(0, mostClaims)
		}
		return &size
	}
	return nil
}
