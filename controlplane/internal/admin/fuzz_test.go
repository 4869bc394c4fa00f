package admin

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzTexts puts anything into a header field with a text: what is taken is one line of UTF-8, and what has no escapes
// is taken as it is.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{
		"", "ann", "größer", "UTF-8''gr%C3%B6", "utf-8'de'%", "UTF-8'", "it's", "\xff", "a\tb", "UTF-8''%0a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h := http.Header{"Gateway-Message": {text}}
		if err := passTexts(h); err != nil || text == "" {
			return
		}
		raw, err := base64.StdEncoding.DecodeString(h.Get("Gateway-Message-Bin"))
		if err != nil || h.Get("Gateway-Message") != "" {
			t.Fatalf("%q became %v, %v", text, h, err)
		}
		if got := string(raw); !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) || !strings.Contains(text, "'") && got != text {
			t.Errorf("%q became %q", text, got)
		}
	})
}

// FuzzREST puts any JSON for a resource. It is taken or refused with a reason, never answered with a failure of the
// server's own; what is taken is shown, and taken again as it is shown.
func FuzzREST(f *testing.F) {
	kinds := []string{"services", "routes", "middleware", "pipelines", "policies", "consumers", "certificates"}
	for i, s := range []string{
		users,
		`{"name":"r","path":"/a/{b}","direct_response":{"status":204,"headers":{"X-A":"b"}}}`,
		`{"name":"m","type":"headers","order":1,"config":{"response":{"set":{"A":"b"}}}}`,
		`{"name":"p","middleware_ids":[],"global":true}`,
		`{"name":"p","timeout":"1.5s","max_request_bytes":"10","upgrades":["websocket"]}`,
		`{"name":"c","groups":["a"]}`,
		`{"name":"c","cert_pem":"x","key_pem":"y"}`,
		`{"name":"r","path":"~(","timeout":"-1s"}`, `{"name":`, `[]`, `null`, `{"name":"a\u0000b"}`, `{"name":"a","name":"b"}`,
	} {
		f.Add(uint8(i), s)
	}
	server := newAPI(f)
	f.Fuzz(func(t *testing.T, kind uint8, body string) {
		a := &api1{t: t, url: server.url, header: server.header}
		path := "/api/v1/config/" + kinds[int(kind)%len(kinds)]
		r := a.call("POST", path, body)
		if r.status >= 500 {
			t.Fatalf("%s: %d %s", body, r.status, r.raw)
		}
		if r.status != 201 {
			if r.Error.Code == "" || r.Error.Message == "" {
				t.Errorf("%s is refused without a reason: %s", body, r.raw)
			}
			return
		}
		id, _ := r.field("id").(string)
		shown := a.must("GET", path+"/"+id, "")
		text, err := json.Marshal(shown.Data)
		if err != nil {
			t.Fatal(err)
		}
		if again := a.call("PUT", path+"/"+id, string(text)); again.status != 200 || again.field("version") != shown.field("version") {
			t.Errorf("%s is shown as %s, which is not the same: %s", body, text, again.raw)
		}
		a.must("DELETE", path+"/"+id, "")
	})
}
