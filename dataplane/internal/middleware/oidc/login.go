package oidc

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

// login is what the cookie of a sign-in that has begun has: what the provider's answer has to fit, which binds it to
// this browser.
type login struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Back     string `json:"b"` // path, with the query
	End      int64  `json:"e"` // in Unix time
}

// loginName returns the cookie's name: each sign-in has one of its own, so that several windows may begin one.
func (s *step) loginName(x *exchange.Exchange, state string) string {
	sum := sha256.Sum256([]byte(state))
	return cookieName(x, s.cookie) + loginInfix + base64.RawURLEncoding.EncodeToString(sum[:6])
}

// begin sends a browser to the provider. What is no page that a user looks at is refused instead: a script can't follow
// to another site.
func (s *step) begin(x *exchange.Exchange, now time.Time) exchange.Verdict {
	if s.lets || !navigates(x) {
		return s.guard.Absent(x, fault.Unauthenticated, "a session is required: sign in with a browser")
	}
	if x.InLoop {
		return exchange.Later
	}
	ctx, stop := s.context(x)
	defer stop()
	m, err := s.provider.Value().metadata(ctx)
	if err != nil {
		return s.fail(x, err)
	}
	l := login{
		State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(), Back: x.Request.Path,
		End: now.Add(loginLifetime).Unix(),
	}
	if x.Request.HasQuery {
		l.Back += "?" + x.Request.RawQuery
	}
	if len(l.Back) > 1024 {
		l.Back = x.Request.Path
	}
	plain, err := json.Marshal(l)
	if err != nil {
		return s.fail(x, err)
	}
	value := s.sealer.seal(loginPurpose, plain)
	j := &jar{secure: x.Scheme == "https"}
	if len(value) > chunkBytes {
		return s.guard.Absent(x, fault.Unauthenticated, "a session is required: sign in at a shorter path")
	}
	j.forgetLogins(&x.Request.Header, cookieName(x, s.cookie))
	j.set(s.loginName(x, l.State), value, loginLifetime)
	challenge := sha256.Sum256([]byte(l.Verifier)) // RFC 7636 section 4.2
	query := url.Values{
		"response_type": {"code"}, "client_id": {s.clientID}, "redirect_uri": {s.callbackURL(x)}, "scope": {s.scope},
		"state": {l.State}, "nonce": {l.Nonce}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
	}
	s.count.begun.Add(1)
	return redirect(x, withQuery(m.Authorize, query), j)
}

func withQuery(at string, query url.Values) string {
	if strings.Contains(at, "?") {
		return at + "&" + query.Encode()
	}
	return at + "?" + query.Encode()
}

func (s *step) callbackURL(x *exchange.Exchange) string {
	return x.Scheme + "://" + x.Request.Host + s.callback
}

// navigates reports whether a request is a browser's for a page that a user looks at.
func navigates(x *exchange.Exchange) bool {
	h := &x.Request.Header
	if x.Request.Method != "GET" || x.RPC != exchange.NoRPC || x.Request.Upgrade != "" {
		return false
	}
	if mode, there := h.Lookup("Sec-Fetch-Mode"); there {
		return mode == "navigate"
	}
	return h.Get("X-Requested-With") == "" && strings.Contains(h.Get("Accept"), "text/html")
}

// finish is the provider's answer to a sign-in, which the browser brings.
func (s *step) finish(x *exchange.Exchange) exchange.Verdict {
	query, err := url.ParseQuery(x.Request.RawQuery)
	state, code := query.Get("state"), query.Get("code")
	if err != nil || x.Request.Method != "GET" || len(query["state"]) != 1 || len(query["code"]) > 1 {
		return s.refuse(x, nil, "the answer to a sign-in has no state, or several")
	}
	name, now := s.loginName(x, state), s.now()
	value, found := cookieOf(&x.Request.Header, name)
	if !found {
		return s.refuse(x, nil, "the sign-in was not begun in this browser, or too long ago")
	}
	j := &jar{secure: x.Scheme == "https"}
	j.set(name, "", 0) // it counts once
	var l login
	plain, ok := s.sealer.open(loginPurpose, value)
	if !ok || json.Unmarshal(plain, &l) != nil || subtle.ConstantTimeCompare([]byte(l.State), []byte(state)) != 1 {
		return s.refuse(x, j, "the sign-in was not begun in this browser")
	}
	issuer := query.Get("iss") // RFC 9207
	switch {
	case now.Unix() >= l.End:
		return s.refuse(x, j, "the sign-in was begun too long ago")
	case issuer != "" && issuer != s.provider.Value().issuer:
		return s.refuse(x, j, "the answer to the sign-in is another provider's")
	case code == "":
		return s.refuse(x, j, "the provider has not signed the user in")
	}
	one, err := s.redeem(x, &l, code, now)
	switch {
	case errors.Is(err, errWrong) || errors.Is(err, errRefused):
		return s.refuse(x, j, "the provider's answer to the sign-in does not hold")
	case err != nil:
		return s.fail(x, err)
	}
	j.clear(&x.Request.Header, cookieName(x, s.cookie)) // what a session before has more of
	j.fields = dropFirst(j.fields, cookieName(x, s.cookie)+"=")
	if err := s.keep(x, j, one, now); err != nil {
		return s.fail(x, err)
	}
	s.count.finished.Add(1)
	return redirect(x, ownPath(l.Back), j)
}

// dropFirst leaves out the fields that begin with a prefix.
func dropFirst(fields []string, prefix string) (rest []string) {
	for _, f := range fields {
		if !strings.HasPrefix(f, prefix) {
			rest = append(rest, f)
		}
	}
	return rest
}

// errWrong is an ID token that is not the one that was asked for.
var errWrong = errors.New("the ID token is wrong")

// redeem gets the session for a code.
func (s *step) redeem(x *exchange.Exchange, l *login, code string, now time.Time) (*stored, error) {
	ctx, stop := s.context(x)
	defer stop()
	p := s.provider.Value()
	got, err := p.redeem(ctx, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {s.callbackURL(x)},
		"code_verifier": {l.Verifier},
	})
	if err != nil {
		return nil, err
	}
	claims, err := p.verify(ctx, got.ID, now)
	if err != nil {
		if p.keys.Set() == nil { // nobody knows
			return nil, err
		}
		return nil, errWrong
	}
	nonce, _ := claims["nonce"].(string)
	if subtle.ConstantTimeCompare([]byte(nonce), []byte(l.Nonce)) != 1 {
		return nil, errWrong
	}
	one := &stored{ID: rand.Text(), Token: got.ID, Refresh: got.Refresh, End: now.Add(s.lifetime).Unix()}
	if got.Refresh != "" {
		one.Next = refreshTime(got, now)
	}
	return one, nil
}

// ownPath returns a path of this host: what browsers could take for another host's URL is not one.
func ownPath(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	return path
}

// refuse answers a sign-in that does not hold.
func (s *step) refuse(x *exchange.Exchange, j *jar, message string) exchange.Verdict {
	s.count.wrong.Add(1)
	s.guard.Wrong(x, fault.Unauthenticated, message)
	if j != nil {
		for _, f := range j.fields {
			x.Response.Header.Add("Set-Cookie", f)
		}
	}
	x.Response.Header.Set("Cache-Control", "no-store")
	return exchange.Stop
}

// end ends the session here, and at the provider where that has a place for it (OpenID Connect RP-Initiated Logout
// 1.0).
func (s *step) end(x *exchange.Exchange) exchange.Verdict {
	if x.Request.Method != "GET" && x.Request.Method != "POST" {
		return s.guard.Wrong(x, fault.Unauthenticated, "a session is ended by GET or POST")
	}
	j := &jar{secure: x.Scheme == "https"}
	one := s.sessionOf(x, s.now())
	j.clear(&x.Request.Header, cookieName(x, s.cookie))
	if one == nil {
		return redirect(x, s.after, j)
	}
	s.sessions.Value().end(one.ID)
	s.count.ended.Add(1)
	ctx, stop := s.context(x)
	defer stop()
	m, err := s.provider.Value().metadata(ctx)
	if err != nil || m.EndSession == "" {
		return redirect(x, s.after, j)
	}
	return redirect(x, withQuery(m.EndSession, url.Values{
		"client_id": {s.clientID}, "id_token_hint": {one.Token},
		"post_logout_redirect_uri": {x.Scheme + "://" + x.Request.Host + s.after},
	}), j)
}
