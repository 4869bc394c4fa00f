package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// clients are the consumers of tests of authentication: the password is "pass word", as bcrypt for speed.
const clients = `
consumers:
  - name: shop
    credentials:
      api_keys: [{name: k, key: a-key-of-the-shop}]
      basic: [{username: ann, password: "$2a$04$3gttItiV6g.7lYqGBPmrEeeoUb7B1zl3yFGWOh/b.nh.YDXhPcOM6"}]
      hmac: [{id: k1, secret: a-secret-of-the-shop}]
  - {name: other, credentials: {api_keys: [{name: k, key: a-key-of-another-one}]}}
`

// tellingWho is a service that tells what it sees of a request.
func tellingWho(t *testing.T) string {
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s from %s, %s %s %s %s", r.URL.RequestURI(), r.Header.Values("X-Consumer"), r.Header.Values("X-Key"),
			r.Header.Values("Authorization"), r.Header.Values("Signature"), b)
	})
}

// identifying is a configuration with steps, in their order.
func identifying(service, steps string) string {
	return to(service, "") + clients + "middleware:\n" + steps +
		"pipelines: [{name: auth, global: true, middleware_ids: [one, two, three]}]\n"
}

// signature returns fields that sign a request with the secret of clients.
func signature(method, host, path string) (input, value string) {
	input = fmt.Sprintf(`("@method" "@authority" "@path" "@query");created=%d;keyid="k1"`, time.Now().Unix())
	h := hmac.New(sha256.New, []byte("a-secret-of-the-shop"))
	fmt.Fprintf(h, "\"@method\": %s\n\"@authority\": %s\n\"@path\": %s\n\"@query\": ?\n\"@signature-params\": %s",
		method, host, path, input)
	return "sig=" + input, "sig=:" + base64.StdEncoding.EncodeToString(h.Sum(nil)) + ":"
}

// TestAuthentication finds consumers by any of three kinds of credentials, over each version of HTTP, in loops and
// without.
func TestAuthentication(t *testing.T) {
	anyOf := `
  - {name: one, type: api_key, order: 1, config: {headers: [X-Key], optional: true, consumer_header: X-Consumer}}
  - {name: two, type: basic_auth, order: 2, config: {optional: true, consumer_header: X-Consumer}}
  - {name: three, type: hmac_auth, order: 3, config: {optional: true, consumer_header: X-Consumer}}
`
	g := start(t, identifying(tellingWho(t), anyOf))
	const key, basic = "a-key-of-the-shop", "Basic YW5uOnBhc3Mgd29yZA=="
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, c := range []struct {
			name, path  string
			key, basic  string
			signs       bool
			status      int
			body, codes string
		}{
			{"by key", "/a", key, "", false, 200, "/a from [shop], [] [] [] ", ""},
			{"by password", "/a", "", basic, false, 200, "/a from [shop], [] [] [] ", ""},
			{"by signature", "/a", "", "", true, 200, "/a from [shop], [] [] [] ", ""},
			{"by all", "/a", key, basic, true, 200, "/a from [shop], [] [] [] ", ""},
			{"by none", "/a", "", "", false, 200, "/a from [], [] [] [] ", ""},
			{"of two consumers", "/a", "a-key-of-another-one", basic, false, 403, "FORBIDDEN", ""},
			{"wrong key and right password", "/a", key + "!", basic, false, 401, "INVALID_API_KEY", "ApiKey"},
			{"right key and wrong password", "/a", key, basic[:len(basic)-4], false, 401, "UNAUTHENTICATED", "Basic"},
		} {
			t.Run(c.name+" "+version, func(t *testing.T) {
				if version == "HTTP/2" {
					once(t)
				}
				client := clientOf(t, version)
				for range 2 {
					req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.address+c.path, nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("X-Consumer", "forged")
					if c.key != "" {
						req.Header.Set("X-Key", c.key)
					}
					if c.basic != "" {
						req.Header.Set("Authorization", c.basic)
					}
					if c.signs {
						input, value := signature("GET", g.address, c.path)
						req.Header.Set("Signature-Input", input)
						req.Header.Set("Signature", value)
					}
					res, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					text := body(t, res)
					_ = res.Body.Close()
					if res.StatusCode != c.status || !strings.Contains(text, c.body) {
						t.Errorf("%d %s", res.StatusCode, text)
					}
					if got := strings.Join(res.Header.Values("WWW-Authenticate"), ","); !strings.Contains(got, c.codes) {
						t.Errorf("challenges %s", got)
					}
				}
			})
		}
	}
}

// TestSignedBodies: the body has the digest that is signed, or the request is refused, in loops and without.
func TestSignedBodies(t *testing.T) {
	g := start(t, identifying(tellingWho(t), `
  - {name: one, type: hmac_auth, order: 1, config: {components: ["@method", content-digest]}}
  - {name: two, type: api_key, order: 2, config: {optional: true}}
  - {name: three, type: api_key, order: 3, config: {optional: true}}
`))
	for _, c := range []struct {
		name, signed, sent string
		status             int
	}{{"the same", "hello", "hello", 200}, {"another one", "hello", "hallo", 401}, {"none", "hello", "", 401}} {
		t.Run(c.name, func(t *testing.T) {
			sum := sha256.Sum256([]byte(c.signed))
			digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
			params := fmt.Sprintf(`("@method" "content-digest");created=%d;keyid="k1"`, time.Now().Unix())
			h := hmac.New(sha256.New, []byte("a-secret-of-the-shop"))
			fmt.Fprintf(h, "\"@method\": POST\n\"content-digest\": %s\n\"@signature-params\": %s", digest, params)
			text := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Digest: %s\r\nSignature-Input: sig=%s\r\n"+
				"Signature: sig=:%s:\r\nContent-Length: %d\r\n\r\n%s", digest, params,
				base64.StdEncoding.EncodeToString(h.Sum(nil)), len(c.sent), c.sent)
			for range 2 {
				res := g.raw(text, "POST")[0]
				if got := body(t, res); res.StatusCode != c.status || c.status == 200 && !strings.HasSuffix(got, c.sent) {
					t.Errorf("%d %s", res.StatusCode, got)
				}
			}
		})
	}
}
