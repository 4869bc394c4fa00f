package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/certtest"
)

// guesses returns configurations with secrets of every kind that has some: the ones that are stored, and others.
func guesses(t *testing.T) (right, wrong map[string]string) {
	t.Helper()
	stored, other := certtest.For(t, "a.test"), certtest.For(t, "a.test")
	quoted := func(s string) string {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	one := func(hmac, apiKey, password, client, cert, key, value string) map[string]string {
		return map[string]string{
			"an HMAC secret": `{"consumers":[{"name":"c","credentials":{"hmac":[{"id":"h","secret":"` + hmac + `"}]}}]}`,
			"an API key":     `{"consumers":[{"name":"k","credentials":{"api_keys":[{"name":"k","key":"` + apiKey + `"}]}}]}`,
			"the same key of another": `{"consumers":[{"name":"k"},
				{"name":"new","credentials":{"api_keys":[{"name":"k","key":"` + apiKey + `"}]}}]}`,
			"a password": `{"consumers":[{"name":"p",
				"credentials":{"basic":[{"username":"p","password":"` + password + `"}]}}]}`,
			"a client secret": `{"middleware":[{"name":"m","type":"oauth2_introspection","order":1,"config":{
				"url":"https://login.example/introspect","client_id":"g","client_secret":"` + client + `"}}]}`,
			"a key": `{"certificates":[{"name":"w","hosts":["a.test"],
				"cert_pem":` + quoted(cert) + `,"key_pem":` + quoted(key) + `}]}`,
			"a value of the environment": `{"middleware":[{"name":"e","type":"headers","order":1,
				"config":{"request":{"set":{"X-Key":"` + value + `"}}},"environment":{"config.request.set.X-Key":"${KEY}"}}]}`,
		}
	}
	return one("right-right-right-1", "right-right-right-2", "right-right-3", "right-right-4",
			stored.CertPEM, stored.KeyPEM, "right-right-5"),
		one("wrong-wrong-wrong-1", "wrong-wrong-wrong-2", "wrong-wrong-3", "wrong-wrong-4",
			other.CertPEM, other.KeyPEM, "wrong-wrong-5")
}

// TestGuessesOfSecretsTellNothing: who may not change a secret is told the same of one that is right and of one that is
// wrong, in every way that takes a configuration and for every kind.
func TestGuessesOfSecretsTellNothing(t *testing.T) {
	a := newAPI(t)
	right, wrong := guesses(t)
	for what, c := range right {
		if what != "the same key of another" {
			a.must("POST", "/api/v1/config/apply", c)
		}
	}
	viewer := a.tokenFor(`{"name":"viewer","role":"viewer"}`)
	confined := a.tokenFor(`{"name":"confined","role":"editor","labels":{"team":"a"}}`)
	client := adminv1.NewConfigurationServiceClient(a.dial())
	rest := func(path string) func(token, body string) string {
		return func(token, body string) string {
			r := a.call("POST", path, body, "Authorization", "Bearer "+token)
			return fmt.Sprint(r.status, " ", r.Error.Code, " ", r.Error.Message)
		}
	}
	grpc := func(call func(context.Context, *configv1.Configuration) error) func(token, body string) string {
		return func(token, body string) string {
			t.Helper()
			c := &configv1.Configuration{}
			if err := protojson.Unmarshal([]byte(body), c); err != nil {
				t.Fatal(err)
			}
			err := call(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token), c)
			if status.Code(err) == codes.PermissionDenied {
				return "403 FORBIDDEN " + err.Error()
			}
			return fmt.Sprint(err)
		}
	}
	ways := map[string]func(token, body string) string{
		"diff":     rest("/api/v1/config/diff"),
		"validate": rest("/api/v1/config/validate"),
		"try":      rest("/api/v1/config/apply?dry_run=true"),
		"apply":    rest("/api/v1/config/apply"),
		"diff over gRPC": grpc(func(ctx context.Context, c *configv1.Configuration) error {
			_, err := client.DiffConfiguration(ctx, &adminv1.DiffConfigurationRequest{Configuration: c})
			return err
		}),
		"validate over gRPC": grpc(func(ctx context.Context, c *configv1.Configuration) error {
			_, err := client.ValidateConfiguration(ctx, &adminv1.ValidateConfigurationRequest{Configuration: c})
			return err
		}),
		"try over gRPC": grpc(func(ctx context.Context, c *configv1.Configuration) error {
			_, err := client.ApplyConfiguration(ctx, &adminv1.ApplyConfigurationRequest{Configuration: c, DryRun: true})
			return err
		}),
	}
	for way, ask := range ways {
		for who, token := range map[string]string{"a viewer": viewer, "an editor of others": confined} {
			for what := range right {
				yes, no := ask(token, right[what]), ask(token, wrong[what])
				if yes != no || !strings.HasPrefix(yes, "403 FORBIDDEN") {
					t.Errorf("%s, %s of %s:\n  right: %s\n  wrong: %s", who, way, what, yes, no)
				}
			}
		}
	}
	patch := func(secret string) string {
		r := a.call("PATCH", "/api/v1/config/consumers/c", `{"credentials":{"hmac":[{"id":"h","secret":"`+secret+`"}]}}`,
			"Authorization", "Bearer "+confined)
		return fmt.Sprint(r.status, r.Error.Message)
	}
	if yes, no := patch("right-right-right-1"), patch("wrong-wrong-wrong-1"); yes != no || !strings.HasPrefix(yes, "403") {
		t.Errorf("a patch:\n  right: %s\n  wrong: %s", yes, no)
	}
	// Without secrets both may be told what would change.
	const bare = `{"consumers":[{"name":"c","groups":["new"],"credentials":{"hmac":[{"id":"h"}]}}]}`
	for _, path := range []string{"/api/v1/config/diff", "/api/v1/config/validate"} {
		a.must("POST", path, bare, "Authorization", "Bearer "+viewer)
		a.must("POST", path, bare, "Authorization", "Bearer "+confined)
	}
	a.must("POST", "/api/v1/config/diff", right["an HMAC secret"]) // and who may change it, with it
}
