// Package iprestriction is the middleware type "ip_restriction": it lets requests pass by the client's address.
package iprestriction

import (
	"fmt"

	"github.com/gaissmai/bart"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/middleware"
)

// New returns the step for settings.
func New(settings proto.Message, _ *pipeline.Environment) (pipeline.Step, error) {
	s, ok := settings.(*middlewarev1.IpRestriction)
	if !ok {
		return nil, fmt.Errorf("ip_restriction: settings are a %T", settings)
	}
	r := &step{restricted: len(s.GetAllow()) > 0, status: 403}
	if s.GetStatus() != 0 {
		r.status = int(s.GetStatus())
	}
	for list, prefixes := range map[*bart.Lite][]string{&r.allow: s.GetAllow(), &r.deny: s.GetDeny()} {
		for _, text := range prefixes {
			p, err := middleware.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("ip_restriction: %q %w", text, err)
			}
			list.Insert(p)
		}
	}
	return r, nil
}

type step struct {
	allow, deny bart.Lite
	restricted  bool
	status      int
}

// Request refuses who may not pass. A client without an IP address passes only where nothing has to be allowed.
func (r *step) Request(x *exchange.Exchange) exchange.Verdict {
	a := x.Client.Addr().Unmap().WithZone("")
	known := a.IsValid()
	if (!known || !r.allow.Contains(a)) && r.restricted || known && r.deny.Contains(a) {
		x.FailStatus(fault.Forbidden, r.status, "this address may not use this route")
		return exchange.Stop
	}
	return exchange.Continue
}

// Response does nothing.
func (r *step) Response(*exchange.Exchange) {}
