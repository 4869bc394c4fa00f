package identity

import (
	"testing"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/consumer/consumertest"
	"gateway.internal/dataplane/internal/exchange"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/fault"
)

// TestConsumerOfClaims is one of the configuration: names of others, also of those that were removed while a token is
// kept, are refused. Without any consumers in the configuration names are what claims say.
func TestConsumerOfClaims(t *testing.T) {
	shop := &configv1.Consumer{Name: "shop", Groups: []string{"partners"}}
	bank := &configv1.Consumer{Name: "bank"}
	both, one := consumertest.Set(t, nil, shop, bank), consumertest.Set(t, nil, bank)
	client := func(name string) *Client {
		return NewMapping(nil, "", "", "client_id").Client(map[string]any{"client_id": name}, "Bearer")
	}
	of := client("shop")
	for _, c := range []struct {
		name      string
		client    *Client
		consumers *consumer.Set
		want      string // "": refused
		groups    int
	}{
		{"a consumer", of, both, "shop", 1},
		{"the same token, once it is removed", of, one, "", 0},
		{"the same token, once it is back", of, both, "shop", 1},
		{"a consumer without groups", client("bank"), one, "bank", 0},
		{"a name that nobody has", client("nobody"), one, "", 0},
		{"a name where there are no consumers", client("nobody"), &consumer.Set{}, "nobody", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var x exchange.Exchange
			g := guard(t, "tokens", settings{optional: true}, "Bearer", "")
			v := c.client.Accept(g, &x, func() *consumer.Set { return c.consumers })
			if c.want == "" {
				if v != exchange.Stop || x.Principal != nil || x.Response.Code != fault.Forbidden ||
					x.Response.Status != 403 {
					t.Errorf("%v: %+v, %d %s", v, x.Principal, x.Response.Status, x.Response.Code)
				}
				return
			}
			if v != exchange.Continue || x.Consumer() != c.want || len(x.Principal.Groups) != c.groups {
				t.Errorf("%v: %+v", v, x.Principal)
			}
		})
	}
	var x exchange.Exchange
	anonymous := NewMapping(nil, "", "", "client_id").Client(map[string]any{"sub": "u"}, "Bearer")
	g := guard(t, "tokens", settings{}, "Bearer", "")
	if v := anonymous.Accept(g, &x, func() *consumer.Set { return one }); v != exchange.Continue || x.Consumer() != "" {
		t.Errorf("without the claim: %v", v)
	}
}
