package admin

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"gateway.internal/controlplane/internal/access"
)

// browse makes a call as a browser does: with a cookie, and without a token.
func (a *api1) browse(method, path, body, cookie string, header ...string) (*reply, []*http.Cookie) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if cookie != "" {
		req.AddCookie(&http.Cookie{Name: plainCookie, Value: cookie})
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	r := &reply{status: res.StatusCode, header: res.Header, raw: string(text)}
	if err := json.Unmarshal(text, r); err != nil {
		a.t.Fatal(err)
	}
	return r, res.Cookies()
}

// open opens a session, and returns the text of its cookie and what goes along with it.
func (a *api1) open(token, before string, header ...string) (cookie, csrf string) {
	a.t.Helper()
	r, cookies := a.browse("POST", "/api/v1/session", "", before, append(header, "Authorization", "Bearer "+token)...)
	if r.status != 200 || len(cookies) != 1 {
		a.t.Fatalf("open a session: %d %s", r.status, r.raw)
	}
	csrf, _ = r.field("csrf_token").(string)
	if strings.Contains(r.raw, cookies[0].Value) {
		a.t.Error("the reply shows the cookie to scripts")
	}
	return cookies[0].Value, csrf
}

func TestLifeOfASession(t *testing.T) {
	a := newAPI(t)
	text := a.tokenFor(`{"name":"ann","role":"editor"}`)
	r, cookies := a.browse("POST", "/api/v1/session", "", "", "Authorization", "Bearer "+text)
	c := cookies[0]
	if r.status != 200 || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" ||
		c.Secure || r.field("name") != "ann" || r.field("role") != "editor" {
		t.Fatalf("%v, %s", c, r.raw)
	}
	_, secure := a.browse("POST", "/api/v1/session", "", "", "Authorization", "Bearer "+text, "X-Forwarded-Proto", "https")
	if !secure[0].Secure || secure[0].Name != secureCookie {
		t.Errorf("over HTTPS: %v", secure[0])
	}
	csrf, _ := r.field("csrf_token").(string)
	if r, _ := a.browse("GET", "/api/v1/session", "", c.Value); r.status != 200 || r.field("csrf_token") != csrf {
		t.Errorf("the session: %d %s", r.status, r.raw)
	}
	if r, _ := a.browse("GET", "/api/v1/whoami", "", c.Value); r.field("name") != "ann" || r.field("method") != "session" {
		t.Errorf("who am I: %d %s", r.status, r.raw)
	}
	if r, _ := a.browse("POST", "/api/v1/config/services", users, c.Value, csrfHeader, csrf); r.status != 201 {
		t.Errorf("a change: %d %s", r.status, r.raw)
	}
	if r := a.must("GET", "/api/v1/config/revisions/1", ""); r.field("author") != "ann" {
		t.Errorf("it is by %v", r.field("author"))
	}
	if r, _ := a.browse("POST", "/api/v1/config/history/prune?newest=1", "", c.Value, csrfHeader, csrf); r.status != 403 {
		t.Errorf("beyond the role: %d %s", r.status, r.raw)
	}
	if r := a.must("GET", "/api/v1/tokens?sessions=true", ""); r.Meta.Total != 2 || strings.Contains(r.raw, c.Value) {
		t.Errorf("the sessions: %s", r.raw)
	}
	if r := a.must("GET", "/api/v1/tokens", ""); r.Meta.Total != 1 {
		t.Errorf("the tokens: %s", r.raw)
	}
	r, cookies = a.browse("DELETE", "/api/v1/session", "", c.Value, csrfHeader, csrf)
	if r.status != 200 || len(cookies) != 1 || cookies[0].MaxAge >= 0 || cookies[0].Value != "" {
		t.Errorf("close: %d %v %s", r.status, cookies, r.raw)
	}
	if r, _ := a.browse("GET", "/api/v1/session", "", c.Value); r.status != 401 {
		t.Errorf("after it was closed: %d %s", r.status, r.raw)
	}
	other, _ := a.open(text, "")
	a.must("DELETE", "/api/v1/tokens/ann", "")
	if r, _ := a.browse("GET", "/api/v1/session", "", other); r.status != 401 {
		t.Errorf("after its token was revoked: %d %s", r.status, r.raw)
	}
	mine, csrf := a.open(token, "")
	if r, _ := a.browse("POST", "/api/v1/config/history/prune?newest=1", "", mine, csrfHeader, csrf); r.status != 200 {
		t.Errorf("the administrator's: %d %s", r.status, r.raw)
	}
	a.server.tokens = access.NewTokens(a.server.store, "another-administrators-token", a.server.log)
	if r, _ := a.browse("GET", "/api/v1/session", "", mine); r.status != 401 {
		t.Errorf("after the administrator's token was changed: %d %s", r.status, r.raw)
	}
}

// TestForgedRequests: a page of another origin can't have the browser of somebody who has a session change anything.
func TestForgedRequests(t *testing.T) {
	a := newAPI(t)
	cookie, csrf := a.open(a.tokenFor(`{"name":"ann","role":"editor"}`), "")
	host := strings.TrimPrefix(a.url, "http://")
	for _, c := range []struct {
		name   string
		header []string
		want   int
	}{
		{"without the header", nil, 403},
		{"with another header", []string{csrfHeader, csrf + "x"}, 403},
		{"with the cookie in the header", []string{csrfHeader, cookie}, 403},
		{"from another site", []string{csrfHeader, csrf, "Sec-Fetch-Site", "cross-site"}, 403},
		{"from another host of the site", []string{csrfHeader, csrf, "Sec-Fetch-Site", "same-site"}, 403},
		{"from another origin", []string{csrfHeader, csrf, "Origin", "https://evil.example"}, 403},
		{"from nowhere", []string{csrfHeader, csrf, "Origin", "null"}, 403},
		{"from the same origin", []string{csrfHeader, csrf, "Sec-Fetch-Site", "same-origin", "Origin", "http://" + host},
			201},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := a.browse("POST", "/api/v1/config/services", users, cookie, c.header...)
			if r.status != c.want {
				t.Errorf("%d %s", r.status, r.raw)
			}
		})
	}
}

// TestSessionFixation: no session that somebody else knows is used, and no text of another kind opens one.
func TestSessionFixation(t *testing.T) {
	a := newAPI(t)
	ann, eve := a.tokenFor(`{"name":"ann","role":"editor"}`), a.tokenFor(`{"name":"eve","role":"viewer"}`)
	planted, _ := a.open(eve, "")
	made, err := access.NewToken()
	if err != nil {
		t.Fatal(err)
	}
	made = access.SessionPrefix + strings.TrimPrefix(made, access.Prefix)
	for name, cookie := range map[string]string{"another's session": planted, "one that was made up": made,
		"a text": "x"} {
		if opened, _ := a.open(ann, cookie); opened == cookie {
			t.Errorf("%s is used", name)
		}
	}
	if r, _ := a.browse("GET", "/api/v1/whoami", "", planted); r.status != 401 {
		t.Errorf("the session before goes on: %d %s", r.status, r.raw)
	}
	mine, csrf := a.open(ann, "")
	for name, cookie := range map[string]string{"made up": made, "a token": ann, "the administrator's token": token,
		"another case": strings.ToUpper(mine), "one character less": mine[:len(mine)-1], "one more": mine + "0"} {
		if r, _ := a.browse("GET", "/api/v1/whoami", "", cookie); r.status != 401 {
			t.Errorf("as a cookie, %s: %d %s", name, r.status, r.raw)
		}
	}
	if r := a.call("GET", "/api/v1/whoami", "", "Authorization", "Bearer "+mine); r.status != 401 {
		t.Errorf("a cookie as a token: %d %s", r.status, r.raw)
	}
	if r, _ := a.browse("POST", "/api/v1/session", "", mine, csrfHeader, csrf); r.status != 403 {
		t.Errorf("a session opens another one: %d %s", r.status, r.raw)
	}
}
