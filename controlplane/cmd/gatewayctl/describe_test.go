package main

import (
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// TestDescribeService shows each endpoint as each node sees it.
func TestDescribeService(t *testing.T) {
	nodes := serve(t)
	const service = `services:
  - name: shop
    endpoints: [{host: 10.0.0.1, port: 80}, {host: 10.0.0.2, port: 80}, {host: 10.0.0.3, port: 80}]
`
	if out, complaint, code := gatewayctl(t, service, "apply", "-f", "-"); code != 0 {
		t.Fatal(out, complaint)
	}
	out, complaint, code := gatewayctl(t, "", "get", "service", "shop", "-o", "json")
	var given struct{ ID string }
	if err := json.Unmarshal([]byte(out), &given); code != 0 || err != nil {
		t.Fatal(out, complaint, err)
	}
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	health := func(host string, healthy bool, problem string) *streamv1.EndpointHealth {
		return &streamv1.EndpointHealth{
			ServiceId: given.ID, Host: host, Port: 80, Healthy: healthy, CheckedAt: at, Error: problem,
		}
	}
	for id, r := range map[string]*streamv1.Report{
		"edge-1": {
			Endpoints: []*streamv1.EndpointHealth{health("10.0.0.1", true, ""), health("10.0.0.2", false, "status 500")},
			Uses: []*streamv1.EndpointUse{
				{ServiceId: given.ID, Host: "10.0.0.1", Port: 80, InFlight: 12, Ejections: 2, EjectionReason: "consecutive_5xx"},
				{ServiceId: given.ID, Host: "10.0.0.9", Port: 80, InFlight: 9},
			},
			Circuits: []*streamv1.CircuitStatus{
				{ServiceId: given.ID, State: streamv1.CircuitStatus_STATE_HALF_OPEN},
				{ServiceId: "another", State: streamv1.CircuitStatus_STATE_OPEN},
			},
		},
		"edge-2": {
			Endpoints: []*streamv1.EndpointHealth{health("10.0.0.1", true, "no answer within 2s")},
			Uses: []*streamv1.EndpointUse{{
				ServiceId: given.ID, Host: "10.0.0.2", Port: 80, Ejections: 1, EjectedUntil: at,
				EjectionReason: "consecutive_gateway_failures",
			}},
		},
	} {
		session, err := nodes.Connect(&streamv1.Hello{NodeId: id, InstanceId: "1"}, "127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		session.Report(r)
	}
	session(t, "describe", "describe service shop", "describe service none", "describe service")
	out, complaint, code = gatewayctl(t, "", "describe", "service", "shop", "-o", "json")
	var shown struct {
		Name     string
		Healthy  bool
		Circuits []struct {
			NodeID string `json:"node_id"`
			State  string
		}
		Endpoints []struct {
			Host  string
			Nodes []struct {
				NodeID string `json:"node_id"`
				Error  string
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &shown); code != 0 || err != nil {
		t.Fatal(out, complaint, err)
	}
	if shown.Name != "shop" || !shown.Healthy || len(shown.Endpoints) != 3 || len(shown.Endpoints[0].Nodes) != 2 ||
		shown.Endpoints[1].Nodes[0].Error != "status 500" ||
		len(shown.Circuits) != 1 || shown.Circuits[0].NodeID != "edge-1" || shown.Circuits[0].State != "half-open" {
		t.Errorf("%s", out)
	}
}
