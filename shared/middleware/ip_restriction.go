package middleware

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

func ipRestrictionType() *Type {
	return &Type{
		Name:     "ip_restriction",
		New:      func() proto.Message { return &middlewarev1.IpRestriction{} },
		Validate: validateIPRestriction,
		Parallel: true,
	}
}

func validateIPRestriction(m proto.Message) []FieldError {
	var c collector
	s := m.(*middlewarev1.IpRestriction)
	if len(s.GetAllow()) == 0 && len(s.GetDeny()) == 0 {
		c.fail("allow", "", "at least one of allow and deny is required")
	}
	for i, a := range s.GetAllow() {
		if _, err := ParsePrefix(a); err != nil {
			c.fail(fmt.Sprintf("allow[%d]", i), a, "%s", err)
		}
	}
	for i, a := range s.GetDeny() {
		if _, err := ParsePrefix(a); err != nil {
			c.fail(fmt.Sprintf("deny[%d]", i), a, "%s", err)
		}
	}
	if st := s.GetStatus(); st != 0 && (st < 400 || st > 599) {
		c.fail("status", fmt.Sprint(st), "has to be from 400 to 599")
	}
	return c.errs
}

// ParsePrefix reads an IP address or a CIDR prefix. IPv4 addresses in IPv6 form become IPv4.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf(`is no IP address such as "192.0.2.7" or "2001:db8::1", and no prefix such as "192.0.2.0/24"`)
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("has bits beyond its prefix length; did you mean %q?", p.Masked())
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(a.Unmap(), p.Bits()-96), nil
	}
	return p, nil
}
