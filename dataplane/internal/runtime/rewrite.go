package runtime

import (
	"regexp"
	"strings"
	"unsafe"

	"gateway.internal/dataplane/internal/exchange"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
)

// rewrite changes what the service sees of a request's target.
type rewrite struct {
	template []config.TemplatePart
	prefix   string
	isPrefix bool
	regex    *regexp.Regexp
	subst    string
	host     string
	ownHost  bool
	reverse  bool
}

func compileRewrite(rw *configv1.Rewrite, rule *match.Rule) (*rewrite, error) {
	w := &rewrite{host: rw.GetHost(), reverse: rw.GetReverse()}
	if w.host == config.EndpointHost {
		w.host, w.ownHost = "", true
	}
	var err error
	switch p := rw.GetPathRewrite().(type) {
	case *configv1.Rewrite_Prefix:
		w.prefix, w.isPrefix = p.Prefix, true
	case *configv1.Rewrite_Path:
		w.template, err = config.ParseTemplate(p.Path, rule.ParamNames())
	case *configv1.Rewrite_Regex:
		w.regex, err = regexp.Compile(p.Regex.GetPattern())
		w.subst = p.Regex.GetSubstitution()
	}
	return w, err
}

func (w *rewrite) apply(x *exchange.Exchange) {
	x.Forward.Host, x.Forward.OwnHost = w.host, w.ownHost
	path := x.Request.Path
	switch {
	case w.isPrefix:
		rest := path[x.Params.PrefixLength():]
		switch {
		case rest == "":
			x.Forward.Path = w.prefix
		case strings.HasSuffix(w.prefix, "/"):
			x.Forward.Path = w.prefix + strings.TrimPrefix(rest, "/")
		default:
			x.Forward.Path = w.prefix + rest
		}
		w.tellPrefix(x)
	case w.template != nil:
		x.Forward.Path = expand(w.template, x)
	case w.regex != nil:
		if p := w.regex.ReplaceAllString(path, w.subst); validTarget(p) {
			x.Forward.Path = p
		}
	}
}

const forwardedPrefix = "X-Forwarded-Prefix"

// tellPrefix tells the service what it has to put before its own paths to get those that clients see: what the
// rewriting has taken away, after what a trusted proxy has taken away before. Where a middleware has decided what the
// field says, that holds.
func (w *rewrite) tellPrefix(x *exchange.Exchange) {
	h := &x.Request.Header
	taken, whole := strings.CutSuffix(x.Request.Path[:x.Params.PrefixLength()], strings.TrimSuffix(w.prefix, "/"))
	if taken = strings.TrimSuffix(taken, "/"); !whole || taken == "" || x.Told.Silent || h.Decides(forwardedPrefix) {
		return
	}
	if before, ok := h.Known(exchange.XForwardedPrefix); ok && validTarget(before) && strings.IndexByte(before, ',') < 0 {
		taken = join(x, strings.TrimSuffix(before, "/"), taken)
	}
	h.Set(forwardedPrefix, taken)
}

// join puts a text together that lives as long as the exchange.
func join(x *exchange.Exchange, parts ...string) string {
	start := len(x.Texts)
	for _, p := range parts {
		x.Texts = append(x.Texts, p...)
	}
	b := x.Texts[start:]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// validTarget reports whether a path that a regex has made can stand in a request line.
func validTarget(p string) bool {
	for i := range len(p) {
		if p[i] <= ' ' || p[i] >= 0x7f || p[i] == '?' || p[i] == '#' {
			return false
		}
	}
	return p != "" && p[0] == '/'
}
