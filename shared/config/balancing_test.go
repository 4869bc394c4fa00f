package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protojson"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// byHash begins a service.
const byHash = `{"load_balancer_type":"consistent_hash","load_balancer_config":`

func balanced(t *testing.T, text string) *configv1.Service {
	t.Helper()
	s := &configv1.Service{}
	if err := protojson.Unmarshal([]byte(text), s); err != nil {
		t.Fatal(err)
	}
	s.Name = "s"
	return s
}

func TestBalancingErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"load_balancer_type":"fastest"}`, `load_balancer_type "fastest"`},
		{
			`{"load_balancer_config":{"hash_key":{"header":"x"}}}`,
			`load_balancer_config.hash_key is for load_balancer_type "consistent_hash"; this service's is "round_robin"`,
		},
		{`{"load_balancer_config":{"table_size":1009}}`, `load_balancer_config.table_size "1009" is for`},
		{`{"load_balancer_config":{"hash_balance_factor":150}}`, `hash_balance_factor "150" is for`},
		{`{"load_balancer_config":{"decay_time":"1s"}}`, `decay_time "1s" is for load_balancer_type "peak_ewma"`},
		{byHash + `{"table_size":100}}`, `table_size "100" has to be from 101 to 262147`},
		{byHash + `{"hash_balance_factor":100}}`, `hash_balance_factor "100" has to be from 101 to 10000`},
		{
			`{"load_balancer_type":"peak_ewma","load_balancer_config":{"decay_time":"1ms"}}`,
			`decay_time "1ms" has to be from 100ms to 1h`,
		},
		{
			`{"load_balancer_config":{"overprovisioning_factor":99}}`,
			`overprovisioning_factor "99" has to be from 100 to 1000`,
		},
		{`{"load_balancer_config":{"panic_threshold":101}}`, `panic_threshold "101" has to be from 0 to 100`},
		{`{"load_balancer_config":{"zone_label":"` + strings.Repeat("z", 257) + `"}}`, `zone_label`},
		{
			`{"load_balancer_config":{"priority_label":"tier"},"endpoints":[{"host":"a","port":1,"labels":{"tier":"first"}}]}`,
			`endpoints[0].labels.tier "first" is the endpoint's priority by load_balancer_config.priority_label, and has`,
		},
		{`{"load_balancer_config":{"slow_start":{}}}`, `slow_start.window is required`},
		{`{"load_balancer_config":{"slow_start":{"window":"2h"}}}`, `slow_start.window "2h" has to be from 1s to 1h`},
		{
			`{"load_balancer_config":{"slow_start":{"window":"1m","aggression":11}}}`,
			`slow_start.aggression "11" has to be from 0.1 to 10`,
		},
		{`{"load_balancer_config":{"slow_start":{"window":"1m","aggression":"NaN"}}}`, `slow_start.aggression "NaN"`},
		{
			`{"load_balancer_config":{"slow_start":{"window":"1m","min_weight_percent":101}}}`,
			`min_weight_percent "101" has to be from 0 to 100`,
		},
		{byHash + `{"slow_start":{"window":"1m"}}}`, `is not for load_balancer_type "consistent_hash"`},
		{
			byHash + `{"hash_key":{}}}`,
			`hash_key says nothing; there are header, cookie, client_ip, path_parameter and consumer`,
		},
		{byHash + `{"hash_key":{"header":"a b"}}}`, `hash_key.header "a b"`},
		{byHash + `{"hash_key":{"path_parameter":""}}}`, `hash_key.path_parameter`},
		{byHash + `{"hash_key":{"consumer":false}}}`, `hash_key.consumer "false" has to be true`},
		{byHash + `{"hash_key":{"cookie":{"name":"a;b"}}}}`, `cookie.name "a;b"`},
		{byHash + `{"hash_key":{"cookie":{"name":"a","ttl":"1ms"}}}}`, `cookie.ttl "1ms" has to be from 1s`},
		{byHash + `{"hash_key":{"cookie":{"name":"a","path":"x"}}}}`, `cookie.path "x"`},
		{byHash + `{"hash_key":{"client_ip":false}}}`, `hash_key.client_ip "false" has to be true`},
		{byHash + `{"hash_key":{"cookie":{"name":"a","same_site":"Lax"}}}}`, `cookie.same_site "Lax" has to be one of lax`},
		{byHash + `{"hash_key":{"cookie":{"name":"a","domain":"a; b=c"}}}}`, `cookie.domain "a; b=c"`},
		{
			byHash + `{"hash_key":{"cookie":{"name":"__host-a","path":"/a"}}}}`,
			`cookie.name "__host-a" is for a cookie with the path "/" and no domain`,
		},
		{
			byHash + `{"hash_key":{"cookie":{"name":"__Host-a","domain":"a.test"}}}}`,
			`cookie.name "__Host-a" is for a cookie with the path "/" and no domain`,
		},
	} {
		problems := &Problems{}
		ch := &checker{problems: problems, kind: Service, name: "s"}
		ch.service(balanced(t, c.text))
		if got := problems.Error(); !strings.Contains(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

func TestBalancingSettings(t *testing.T) {
	defaults := Balancing{Type: "round_robin", TableSize: 65537, Overprovisioning: 140, DecayTime: 10 * time.Second}
	for _, c := range []struct {
		text   string
		change func(*Balancing)
	}{
		{`{}`, func(*Balancing) {}},
		{`{"load_balancer_config":{"zone_label":"zone","priority_label":"tier",` +
			`"overprovisioning_factor":200,"panic_threshold":50}}`,
			func(b *Balancing) {
				b.ZoneLabel, b.PriorityLabel, b.Overprovisioning, b.PanicThreshold = "zone", "tier", 200, 50
			}},
		{`{"load_balancer_config":{"slow_start":{"window":"30s"}}}`, func(b *Balancing) {
			b.SlowStart, b.Aggression, b.MinWeightPercent = 30*time.Second, 1, 10
		}},
		{byHash + `{"table_size":1009,"hash_balance_factor":150,"hash_key":{"header":"x-user"}}}`,
			func(b *Balancing) {
				b.Type, b.TableSize, b.BalanceFactor = "consistent_hash", 1009, 150
				b.Key = HashKey{Source: HashHeader, Name: "x-user"}
			}},
		{byHash + `{"hash_key":{"cookie":{"name":"at","ttl":"90s","path":"/a","same_site":"none"}}}}`,
			func(b *Balancing) {
				b.Type = "consistent_hash"
				b.Key = HashKey{Source: HashCookie, Cookie: Cookie{Name: "at",
					attributes: "; Path=/a; Max-Age=90; HttpOnly; SameSite=None; Secure"}}
			}},
		{byHash + `{"hash_key":{"path_parameter":"id"}}}`, func(b *Balancing) {
			b.Type, b.Key = "consistent_hash", HashKey{Source: HashPathParameter, Name: "id"}
		}},
		{byHash + `{"hash_key":{"consumer":true}}}`, func(b *Balancing) {
			b.Type, b.Key = "consistent_hash", HashKey{Source: HashConsumer}
		}},
		{`{"load_balancer_type":"peak_ewma","load_balancer_config":{"decay_time":"3s"}}`, func(b *Balancing) {
			b.Type, b.DecayTime = "peak_ewma", 3*time.Second
		}},
	} {
		want := defaults
		c.change(&want)
		s := balanced(t, c.text)
		problems := &Problems{}
		(&checker{problems: problems, kind: Service, name: "s"}).service(s)
		if text := problems.Error(); text != "" {
			t.Errorf("%s: %s", c.text, text)
		}
		if d := cmp.Diff(want, ServiceSettingsOf(s).Balancing, cmpopts.EquateComparable(Cookie{})); d != "" {
			t.Errorf("%s: %s", c.text, d)
		}
	}
}

func TestPrioritiesOfEndpoints(t *testing.T) {
	for value, want := range map[string]int{"0": 0, "7": 7, "127": 127, "128": 0, "-1": 0, "": 0, "x": 0} {
		e := &configv1.Endpoint{Labels: map[string]string{"tier": value}}
		if got := (&Balancing{PriorityLabel: "tier"}).Priority(e); got != want {
			t.Errorf("%q: %d instead of %d", value, got, want)
		}
		if got := (&Balancing{}).Priority(e); got != 0 {
			t.Errorf("%q without a label to look at: %d", value, got)
		}
	}
}
