package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// feature is something that the gateway does besides, in the form of its configuration.
type feature struct {
	// lists are those of kinds that no setup has otherwise.
	lists string
	// service is appended to the settings of the service.
	service string
	// middleware stands behind the one that all setups have.
	middleware []step
	// field is what requests carry; empty: nothing.
	field string
}

// step is a middleware: its name, and its other settings.
type step struct{ name, rest string }

const (
	limitOfEach = `rate_limits: [{name: client, limit: 1000000, key: [client_ip]}]`
	secret      = "a secret of this benchmark that is no secret"
	consumers   = 1000
)

var (
	// resilience is a circuit, the ejection of outliers and retries with a budget.
	resilience = &feature{
		lists: `policies:
  - {name: saved, retry: {attempts: 3, on: [connect_failure, reset, refused_stream, gateway_error], budget_percent: 20}}
`,
		service: `, policy_id: saved, circuit_breaker_config: {error_threshold: 0.5, interval: 10s, timeout: 30s,
    consecutive_failures: 50},
    outlier_detection: {consecutive_5xx: 5, consecutive_gateway_failures: 5, success_rate: {}}`,
	}
	// rateLimit is a token bucket for each client.
	rateLimit = &feature{lists: "policies:\n  - {name: limited, " + limitOfEach + "}\n", service: ", policy_id: limited"}
	// token is a signed token that comes again and again.
	token = &feature{middleware: []step{tokenStep()}, field: tokenField()}
	// apiKey is a key of one of many consumers.
	apiKey = &feature{
		lists:      keys(),
		middleware: []step{{"key", "type: api_key, config: {headers: [X-API-Key]}"}},
		field:      "X-API-Key: " + keyOf(consumers/2),
	}
	// rules are those of rbac and of cel.
	rules = &feature{middleware: append([]step{tokenStep()}, ruleSteps()...), field: tokenField()}
	// chain is what a public API has: who, what, how much.
	chain = &feature{
		lists: rateLimit.lists, service: rateLimit.service,
		middleware: append([]step{tokenStep()}, ruleSteps()...), field: tokenField(),
	}
)

func tokenStep() step {
	key := base64.RawURLEncoding.EncodeToString([]byte(secret))
	return step{"token", fmt.Sprintf("type: jwt, config: {issuers: [{issuer: bench, audiences: [shop], algorithms: [HS256], "+
		"jwks: {keys: [{kty: oct, kid: a, k: %q}]}}], claims_to_headers: {sub: X-User}}", key)}
}

// tokenField is a token that is valid until 2100.
func tokenField() string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","kid":"a"}`)) + "." +
		encode([]byte(`{"iss":"bench","aud":"shop","sub":"ann","scope":"read write","exp":4102444800}`))
	sum := hmac.New(sha256.New, []byte(secret))
	sum.Write([]byte(signed))
	return "Authorization: Bearer " + signed + "." + encode(sum.Sum(nil))
}

func ruleSteps() []step {
	return []step{
		{"rules", `type: rbac, config: {rules: [{groups: [robots], effect: deny}, {paths: [/admin/*], effect: deny}, ` +
			`{scopes: [write], methods: [POST, PUT], effect: allow}, {scopes: [read], methods: [GET], effect: allow}]}`},
		{"expression", `type: cel, config: {allow: "request.method == 'GET' && 'read' in identity.scopes"}`},
	}
}

func keys() string {
	var b strings.Builder
	b.WriteString("consumers:\n")
	for i := range consumers {
		fmt.Fprintf(&b, "  - {name: c%d, credentials: {api_keys: [{name: main, key: %s}]}}\n", i, keyOf(i))
	}
	return b.String()
}

func keyOf(i int) string { return fmt.Sprintf("key-of-the-consumer-%06d", i) }
