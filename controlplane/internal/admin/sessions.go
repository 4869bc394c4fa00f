package admin

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/fault"
)

const (
	// secureCookie is the cookie of a session over HTTPS: browsers take it from this host alone, for all paths.
	secureCookie = "__Host-gateway-session"
	// plainCookie is that over HTTP, as on the machine itself.
	plainCookie = "gateway-session"
	// csrfHeader has to have what the reply to the session's opening says, in all calls that may change something.
	csrfHeader = "X-CSRF-Token"
	// sessionKind is what the audit trail calls sessions.
	sessionKind = "session"
)

// browser is what a call over REST has to do with sessions. The call's handler changes it, and the reply has what it
// says.
type browser struct {
	// cookie is the text of a valid session's cookie, id the session; "": there is none.
	cookie, id string
	// secure says that the browser speaks HTTPS.
	secure bool
	// set is the text of a new session's cookie until expires, and forget says that there is no session any more.
	set     string
	expires time.Time
	forget  bool
}

// letIn returns who makes a call over REST: by its Authorization, or else by the cookie of a session.
func (s *Server) letIn(ctx context.Context, c caller, r *http.Request) (*access.Identity, error) {
	fields := r.Header.Values("Authorization")
	c.browser.secure = r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
	id, cookie, err := s.sessionOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if id != nil {
		c.browser.cookie, c.browser.id = cookie, id.TokenID
	}
	call := r.Method + " " + r.URL.Path
	if len(fields) > 0 || id == nil {
		return s.authenticate(ctx, c, call, fields)
	}
	if why := forged(r, cookie); why != "" {
		c.identity = id
		err := failure(fault.Forbidden, why)
		s.refused(ctx, c, call, err)
		return nil, err
	}
	return id, nil
}

// sessionOf returns the session whose cookie a request has; nil: none. A cookie that is no session's any more is none.
func (s *Server) sessionOf(ctx context.Context, r *http.Request) (*access.Identity, string, error) {
	for _, name := range []string{secureCookie, plainCookie} {
		for _, cookie := range r.CookiesNamed(name) {
			id, err := s.tokens.Session(ctx, cookie.Value)
			switch {
			case err == nil:
				return id, cookie.Value, nil
			case !errors.Is(err, access.ErrNobody):
				return nil, "", translate(ctx, s.log, err)
			}
		}
	}
	return nil, "", nil
}

// forged returns why a request with the cookie of a session may have been made by a page of somebody else; "" where it
// was not: what changes nothing may be asked for by anybody, who does not see the answer.
func forged(r *http.Request, cookie string) string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		return ""
	}
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	u, err := url.Parse(origin)
	switch {
	case site != "" && site != "same-origin":
		return "the request comes from a page of another origin (Sec-Fetch-Site)"
	case origin != "" && (err != nil || !strings.EqualFold(u.Host, r.Host)):
		return "the request comes from a page of another origin (Origin)"
	case subtle.ConstantTimeCompare([]byte(r.Header.Get(csrfHeader)), []byte(access.CSRF(cookie))) != 1:
		return "a call with the cookie of a session needs the session's csrf_token in " + csrfHeader
	}
	return ""
}

// writeCookie tells the browser of a session that was opened or closed.
func (b *browser) writeCookie(w http.ResponseWriter) {
	if b == nil || b.set == "" && !b.forget {
		return
	}
	//nolint:gosec // Secure is for where there is TLS
	c := &http.Cookie{Name: plainCookie, Value: b.set, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: b.secure, Expires: b.expires}
	if b.secure {
		c.Name = secureCookie
	}
	if b.forget {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// OpenSession makes a session for who has a token.
func (s accessService) OpenSession(ctx context.Context, _ *adminv1.OpenSessionRequest) (*adminv1.OpenSessionResponse,
	error) {
	c := callerOf(ctx)
	if c.browser == nil {
		return nil, failure(fault.InvalidArgument, "sessions are for browsers: over gRPC each call has its token")
	}
	if c.identity.Method == access.BySession {
		return nil, failure(fault.Forbidden, "a session is opened with a token, not with the cookie of another session")
	}
	e := doneEntry(ctx)
	e.Resources = []store.AuditResource{{Kind: sessionKind, Name: c.identity.Name}}
	cookie, t, err := s.tokens.OpenSession(ctx, c.identity, c.browser.id, e)
	if err != nil {
		return nil, err
	}
	c.browser.set, c.browser.expires = cookie, t.ExpiresAt
	return &adminv1.OpenSessionResponse{Session: &adminv1.Session{
		Id: t.ID, Name: t.Name, Role: t.Role, CsrfToken: access.CSRF(cookie), ExpiresAt: timestamp(t.ExpiresAt),
	}, Meta: s.meta()}, nil
}

// GetSession returns the session of a cookie.
func (s accessService) GetSession(ctx context.Context, _ *adminv1.GetSessionRequest) (*adminv1.GetSessionResponse,
	error) {
	c := callerOf(ctx)
	if c.browser == nil || c.identity.Method != access.BySession {
		return nil, failure(fault.NotFound, "this call has no cookie of a session")
	}
	return &adminv1.GetSessionResponse{Session: &adminv1.Session{
		Id: c.browser.id, Name: c.identity.Name, Role: c.identity.Role.String(), CsrfToken: access.CSRF(c.browser.cookie),
		ExpiresAt: timestamp(c.identity.Expires),
	}, Meta: s.meta()}, nil
}

// CloseSession ends the session of a cookie.
func (s accessService) CloseSession(ctx context.Context,
	_ *adminv1.CloseSessionRequest) (*adminv1.CloseSessionResponse, error) {
	c := callerOf(ctx)
	if c.browser == nil || c.identity.Method != access.BySession {
		return nil, failure(fault.NotFound, "this call has no cookie of a session")
	}
	e := doneEntry(ctx)
	e.Resources = []store.AuditResource{{Kind: sessionKind, Name: c.identity.Name}}
	if err := s.tokens.Revoke(ctx, c.browser.id, e); err != nil {
		return nil, err
	}
	c.browser.forget = true
	return &adminv1.CloseSessionResponse{Meta: s.meta()}, nil
}
