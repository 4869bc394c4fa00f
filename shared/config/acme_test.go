package config

import (
	"errors"
	"net"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/hostname/hostnametest"
)

func byACME(name string, hosts ...string) *configv1.Certificate {
	return &configv1.Certificate{Name: name, Hosts: hosts, Acme: &configv1.ACME{}}
}

// obtain puts what an ACME server gave, as the control plane does.
func obtain(t *testing.T, c *Config, name string, names ...string) *Config {
	t.Helper()
	m := proto.CloneOf(c.ByName(Certificate, name).Message.(*configv1.Certificate))
	m.CertPem, m.KeyPem = selfSigned(t, names...)
	m.Obtained = &configv1.Obtained{DirectoryUrl: "https://acme.example/dir", At: timestamppb.Now()}
	e := put(m)
	e.Obtains = true
	return mustPlan(t, c, e).Config
}

func stored(c *Config, name string) *configv1.Certificate {
	return c.ByName(Certificate, name).Message.(*configv1.Certificate)
}

func TestACMEIsValidated(t *testing.T) {
	cert, key := selfSigned(t, "a.example")
	many := make([]string, 101)
	for i := range many {
		many[i] = strings.Repeat("a", i%60+1) + strings.Repeat(".b", i/60+1) + ".example"
	}
	with := func(m *configv1.Certificate, change func(m *configv1.Certificate)) *configv1.Certificate {
		change(m)
		return m
	}
	for _, c := range []struct {
		name  string
		m     *configv1.Certificate
		field string // with a problem; empty: none
	}{
		{"not obtained yet", byACME("a", "a.example", "b.example"), ""},
		{"an address", byACME("a", "192.0.2.1", "2001:db8::1"), ""},
		{"no hosts", byACME("a"), "hosts"},
		{"too many hosts", byACME("a", many...), "hosts"},
		{"a wildcard", byACME("a", "a.example", "*.a.example"), "hosts[1]"},
		{"a host that is none", byACME("a", "a b"), "hosts[0]"},
		{"a host twice", byACME("a", "a.example", "A.example."), "hosts[1]"},
		{"a directory without TLS", with(byACME("a", "a.example"), func(m *configv1.Certificate) { m.Acme.DirectoryUrl = "http://acme.example" }), "acme.directory_url"},
		{"a directory without end", with(byACME("a", "a.example"), func(m *configv1.Certificate) {
			m.Acme.DirectoryUrl = "https://acme.example/" + strings.Repeat("x", 500)
		}), "acme.directory_url"},
		{"an unknown key type", with(byACME("a", "a.example"), func(m *configv1.Certificate) { m.Acme.KeyType = "dsa" }), "acme.key_type"},
		{"a profile that is no name", with(byACME("a", "a.example"), func(m *configv1.Certificate) { m.Acme.Profile = "a b" }), "acme.profile"},
		{"a certificate to begin with", with(byACME("a", "a.example", "b.example"), func(m *configv1.Certificate) { m.CertPem, m.KeyPem = cert, key }), ""},
		{"a certificate without its key", with(byACME("a", "a.example"), func(m *configv1.Certificate) { m.CertPem = cert }), "key_pem"},
		{"a key without its certificate", with(byACME("a", "a.example"), func(m *configv1.Certificate) { m.KeyPem = key }), "cert_pem"},
		{"client_auth", with(byACME("a", "a.example"), func(m *configv1.Certificate) { m.ClientAuth = &configv1.ClientAuth{} }), "client_auth"},
	} {
		_, err := Empty().Plan([]Edit{put(c.m)}, options())
		var ps Problems
		errors.As(err, &ps)
		if c.field == "" && err != nil || c.field != "" && (len(ps) == 0 || !strings.HasPrefix(ps[0].Field, c.field)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestACMEHosts runs the hosts that routes are tried with through what is asked of ACME servers: exactly the hosts that
// are no wildcards, in the form that requests for them are compared in.
func TestACMEHosts(t *testing.T) {
	for _, c := range hostnametest.Cases() {
		plan, err := Empty().Plan([]Edit{put(byACME("c", c.Pattern))}, options())
		if wildcard := strings.HasPrefix(c.Pattern, "*."); (err != nil) != wildcard {
			t.Errorf("%q: %v", c.Pattern, err)
		}
		if err != nil {
			continue
		}
		var b hostname.Buffer
		host := stored(plan.Config, "c").GetHosts()[0]
		if got := host == string(hostname.Key(&b, c.Host)); got != c.Matches {
			t.Errorf("a certificate is obtained for %q, and is for %q: %v", host, c.Host, got)
		}
		cert, _ := selfSigned(t, host)
		if leaf, err := leafOf(cert); err != nil || net.ParseIP(host) == nil && !Covers(leaf, host) {
			t.Errorf("a certificate that was obtained for %q is not for it: %v", host, err)
		}
	}
}

func TestACMECertificateIsNotForServices(t *testing.T) {
	svc := &configv1.Service{Name: "s", Protocol: "https", Tls: &configv1.ServiceTLS{CertificateId: "a"}}
	cert, key := selfSigned(t, "a.example")
	manual := &configv1.Certificate{Name: "a", CertPem: cert, KeyPem: key}
	pending := mustPlan(t, Empty(), put(byACME("a", "a.example"))).Config
	shown := mustPlan(t, Empty(), put(manual), put(svc)).Config
	for name, err := range map[string]error{
		"a new service":     second(pending.Plan([]Edit{put(svc)}, options())),
		"a new certificate": second(shown.Plan([]Edit{put(byACME("a", "a.example"))}, options())),
	} {
		var ps Problems
		if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Field != "tls.certificate_id" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[A, B any](_ A, b B) B { return b }

func TestWhatWasObtainedStays(t *testing.T) {
	pending := mustPlan(t, Empty(), put(byACME("a", "a.example")))
	if len(pending.Warnings()) != 1 || pending.Warnings()[0].Field != "acme" {
		t.Errorf("warnings: %v", pending.Warnings())
	}
	first := obtain(t, pending.Config, "a", "a.example")
	if plan := mustPlan(t, first, put(byACME("a", "a.example"))); len(plan.Changes) != 0 {
		t.Error("putting it again as it was written changes something")
	}
	public := proto.CloneOf(stored(first, "a")) // as the API shows it
	public.KeyPem = ""
	second := obtain(t, first, "a", "a.example")
	if plan := mustPlan(t, second, put(public)); len(plan.Changes) != 0 {
		t.Error("putting back what was read before a renewal changes something")
	}

	// One more host: what there is stays until there is a better one.
	wider := mustPlan(t, second, put(byACME("a", "a.example", "b.example"))).Config
	if m := stored(wider, "a"); m.GetKeyPem() != stored(second, "a").GetKeyPem() || m.GetObtained() == nil || m.GetNotAfter() == nil {
		t.Errorf("with another host: %v", m.GetHosts())
	}

	// Back to a certificate of one's own.
	cert, key := selfSigned(t, "a.example")
	manual := mustPlan(t, second, put(&configv1.Certificate{Name: "a", CertPem: cert, KeyPem: key})).Config
	if m := stored(manual, "a"); m.GetObtained() != nil || m.GetCertPem() != cert {
		t.Errorf("without acme: %v", m)
	}
	// And to ACME again: the one that is there is served until then.
	again := mustPlan(t, manual, put(byACME("a", "a.example"))).Config
	if m := stored(again, "a"); m.GetCertPem() != cert || m.GetObtained() != nil {
		t.Errorf("with acme again: %v", m)
	}
}

// Where a certificate is from is the control plane's to say: others would have it renewed elsewhere, or never.
func TestNobodySaysWhatWasObtained(t *testing.T) {
	cert, key := selfSigned(t, "a.example")
	claim := &configv1.Obtained{DirectoryUrl: "https://elsewhere.example/dir", At: timestamppb.Now()}
	created := byACME("a", "a.example")
	created.CertPem, created.KeyPem, created.Obtained = cert, key, claim
	if m := stored(mustPlan(t, Empty(), put(created)).Config, "a"); m.GetObtained() != nil {
		t.Errorf("created: %v", m.GetObtained())
	}
	real := obtain(t, mustPlan(t, Empty(), put(byACME("a", "a.example"))).Config, "a", "a.example")
	for name, change := range map[string]func(m *configv1.Certificate){
		"changed":    func(m *configv1.Certificate) { m.Obtained = claim },
		"taken away": func(m *configv1.Certificate) { m.Obtained = nil },
		"changed, with its key": func(m *configv1.Certificate) {
			m.Obtained, m.KeyPem = claim, stored(real,
				"a").GetKeyPem()
		},
		"taken away, without key and certificate": func(m *configv1.Certificate) { m.Obtained, m.CertPem = nil, "" },
	} {
		m := proto.CloneOf(stored(real, "a"))
		m.KeyPem = ""
		change(m)
		if plan := mustPlan(t, real, put(m)); len(plan.Changes) != 0 {
			t.Errorf("%s: %v", name, plan.Changes)
		}
	}
	other := proto.CloneOf(stored(real, "a"))
	other.CertPem, other.KeyPem = cert, key
	if m := stored(mustPlan(t, real, put(other)).Config, "a"); m.GetObtained() != nil {
		t.Errorf("with a certificate of one's own: %v", m.GetObtained())
	}
}

func TestRollbackKeepsTheNewerCertificate(t *testing.T) {
	pending := mustPlan(t, Empty(), put(byACME("a", "a.example"))).Config
	old := obtain(t, pending, "a", "a.example")
	now := obtain(t, mustPlan(t, old, put(byACME("a", "a.example", "b.example"))).Config, "a", "a.example", "b.example")
	m := proto.CloneOf(stored(now, "a")) // ends later than the old one
	m.Labels = map[string]string{"x": "y"}
	m.CertPem, m.KeyPem = selfSignedUntil(t, stored(old, "a").GetNotAfter().AsTime().AddDate(0, 1, 0), "a.example", "b.example")
	now = mustPlan(t, now, put(m)).Config
	opts := options()
	opts.Restore = true
	for name, target := range map[string]*Config{"obtained before": old, "not obtained yet": pending} {
		plan, err := now.Plan([]Edit{put(stored(target, "a"))}, opts)
		if err != nil {
			t.Fatal(err)
		}
		got := stored(plan.Config, "a")
		if got.GetKeyPem() != m.GetKeyPem() || len(got.GetHosts()) != 1 || got.GetLabels() != nil {
			t.Errorf("%s: hosts %v, labels %v, ends %v", name, got.GetHosts(), got.GetLabels(), got.GetNotAfter().AsTime())
		}
	}
}

func TestIsChallenge(t *testing.T) {
	answer := &configv1.DirectResponse{Body: "t.k"}
	for name, c := range map[string]struct {
		route *configv1.Route
		want  bool
	}{
		"a challenge": {&configv1.Route{Path: ChallengePath + "t-_9", DirectResponse: answer}, true},
		"a prefix":    {&configv1.Route{Path: ChallengePath + "*", DirectResponse: answer}, false},
		"a parameter": {&configv1.Route{Path: ChallengePath + "{t}", DirectResponse: answer}, false},
		"the folder":  {&configv1.Route{Path: ChallengePath, DirectResponse: answer}, false},
		"below one":   {&configv1.Route{Path: ChallengePath + "t/x", DirectResponse: answer}, false},
		"elsewhere":   {&configv1.Route{Path: "/t", DirectResponse: answer}, false},
		"a service":   {&configv1.Route{Path: ChallengePath + "t", ServiceId: "s"}, false},
		"a pipeline":  {&configv1.Route{Path: ChallengePath + "t", DirectResponse: answer, PipelineId: "p"}, false},
		"a policy":    {&configv1.Route{Path: ChallengePath + "t", DirectResponse: answer, PolicyId: "p"}, false},
	} {
		if got := IsChallenge(c.route); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if IsTransient(c.route) {
			t.Errorf("%s: transient without the label", name)
		}
		c.route.Labels = map[string]string{ManagedByLabel: ManagedByACME}
		if got := IsTransient(c.route); got != c.want {
			t.Errorf("%s: transient %v", name, got)
		}
	}
}
