package config

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestFaultsAndBuffersAreValidated(t *testing.T) {
	abort := func(a *configv1.FaultAbort) *configv1.Policy {
		return &configv1.Policy{Fault: &configv1.Fault{Abort: a}}
	}
	delay := func(d *configv1.FaultDelay) *configv1.Policy {
		return &configv1.Policy{Fault: &configv1.Fault{Delay: d}}
	}
	buffer := func(n int64, larger string) *configv1.Policy {
		return &configv1.Policy{BufferRequest: &configv1.BufferRequest{MaxBytes: n, Larger: larger}}
	}
	for _, c := range []struct {
		name   string
		policy *configv1.Policy
		field  string // with a problem; empty: none
	}{
		{"an abort", abort(&configv1.FaultAbort{Status: 418, GrpcStatus: proto.Uint32(16), Percent: proto.Float64(0.5)}), ""},
		{"no error", abort(&configv1.FaultAbort{Status: 200}), "fault.abort.status"},
		{"no error of gRPC", abort(&configv1.FaultAbort{GrpcStatus: proto.Uint32(0)}), "fault.abort.grpc_status"},
		{"no share", abort(&configv1.FaultAbort{Percent: proto.Float64(0)}), "fault.abort.percent"},
		{"a delay", delay(&configv1.FaultDelay{Fixed: "10m"}), ""},
		{"no time", delay(&configv1.FaultDelay{}), "fault.delay.fixed"},
		{"too late", delay(&configv1.FaultDelay{Fixed: "11m"}), "fault.delay.fixed"},
		{"more than all", delay(&configv1.FaultDelay{Fixed: "1s", Percent: proto.Float64(101)}), "fault.delay.percent"},
		{"nothing", &configv1.Policy{Fault: &configv1.Fault{}}, "fault"},
		{"no field", &configv1.Policy{Fault: &configv1.Fault{
			Abort: &configv1.FaultAbort{}, Headers: []*configv1.HeaderMatch{{}},
		}}, "fault.headers[0].name"},
		{"a buffer", buffer(64<<20, "stream"), ""},
		{"no buffer", buffer(0, ""), "buffer_request.max_bytes"},
		{"a large buffer", buffer(64<<20+1, ""), "buffer_request.max_bytes"},
		{"neither", buffer(1, "drop"), "buffer_request.larger"},
	} {
		c.policy.Name = "p"
		_, err := Empty().Plan([]Edit{put(c.policy)}, options())
		var ps Problems
		errors.As(err, &ps)
		if c.field == "" && err != nil || c.field != "" && (len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
