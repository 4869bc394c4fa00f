package configtest

import (
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// OfEachKind returns a resource of each kind, in the order of the kinds. Their ids are from "1" on; some have what
// nodes do not get.
func OfEachKind() []config.Message {
	labels := map[string]string{"a": "1", "b": "2", "c": "3"}
	at := timestamppb.New(time.Unix(1e9, 0))
	named := &configv1.NamedReferences{Fields: []string{"pipeline_id"}}
	object := func(name string, v *structpb.Value) *structpb.Value {
		return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{name: v}})
	}
	settings := object("request", object("set", object("X-A", structpb.NewStringValue("1")))).GetStructValue()
	return []config.Message{
		&configv1.Policy{Id: "1", Name: "p", Version: 1, CreatedAt: at, UpdatedAt: at, Labels: labels, Timeout: "1s"},
		&configv1.Certificate{Id: "2", Name: "c", Version: 1, CreatedAt: at, UpdatedAt: at, Labels: labels,
			Hosts: []string{"a.example"}},
		&configv1.Consumer{Id: "3", Name: "app", Version: 1, CreatedAt: at, UpdatedAt: at, Labels: labels, Groups: []string{"g"}},
		&configv1.Middleware{Id: "4", Name: "m", Version: 1, CreatedAt: at, UpdatedAt: at, Labels: labels,
			Type: "headers", Config: settings, Order: 7},
		&configv1.Pipeline{Id: "5", Name: "l", Version: 1, CreatedAt: at, UpdatedAt: at, Labels: labels,
			MiddlewareIds: []string{"4"}, NamedReferences: named},
		&configv1.Service{Id: "6", Name: "s", Version: 1, CreatedAt: at, UpdatedAt: at, Labels: labels,
			PipelineId: "5", NamedReferences: named, Endpoints: []*configv1.Endpoint{{Host: "h", Port: 1}}},
		&configv1.Route{Id: "7", Name: "r", Version: 1, CreatedAt: at, UpdatedAt: at, Path: "/a", ServiceId: "6", PipelineId: "5",
			Labels: labels, NamedReferences: named},
	}
}
