package admin

import (
	"testing"

	"google.golang.org/grpc"

	"gateway.internal/shared/config"
)

// TestEveryKindIsOffered over gRPC and REST.
func TestEveryKindIsOffered(t *testing.T) {
	g := grpc.NewServer()
	(&Server{}).register(g)
	for _, k := range config.Kinds() {
		service := "gateway.admin.v1." + string(config.New(k).ProtoReflect().Descriptor().Name()) + "ConfigService"
		if _, there := g.GetServiceInfo()[service]; !there || offers()[k].rest == nil {
			t.Errorf("%s is not offered as %s", k, service)
		}
	}
}
