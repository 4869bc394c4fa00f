package routing

import (
	"regexp"
	"strings"
	"unsafe"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// Rewrite changes what a service sees of a request's target. It is immutable.
type Rewrite struct {
	// Host is what the service gets as Host; empty: the request's.
	Host string
	// OwnHost makes that the host of each endpoint which is asked.
	OwnHost bool
	// Reverse tells that it is undone in the responses of the service.
	Reverse bool

	template []config.TemplatePart
	prefix   string
	isPrefix bool
	regex    *regexp.Regexp
	subst    string
}

func newRewrite(rw *configv1.Rewrite, rule *match.Rule) (*Rewrite, error) {
	w := &Rewrite{Host: rw.GetHost(), Reverse: rw.GetReverse()}
	if w.Host == config.EndpointHost {
		w.Host, w.OwnHost = "", true
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

// Prefix returns what takes the place of the part of the path before the "*" of the route's; false: nothing does.
func (w *Rewrite) Prefix() (string, bool) { return w.prefix, w.isPrefix }

// ForwardPath returns the path that the service is to see of a request whose path, in the form that the route sees, has
// matched; empty: that one. What a rewrite puts together is brought into that form again: its parts are as they should
// be, but a part such as ".." of a segment may have become a whole one. Where that is refused, the reason is returned.
// texts is appended to, and memory is written over; the path is a view of one of them, or lives as long as the route.
func (r *Route) ForwardPath(
	node *pathnorm.Rules, path string, params *match.Params, texts, memory *[]byte,
) (forward, refused string) {
	if r.Rewrite == nil {
		return "", ""
	}
	if forward, *texts = r.Rewrite.path(path, params, *texts); forward == "" {
		return "", ""
	}
	forward, *memory, refused = r.rules(node).Apply(forward, *memory)
	return forward, refused
}

func (w *Rewrite) path(path string, params *match.Params, texts []byte) (string, []byte) {
	switch {
	case w.isPrefix:
		rest := path[params.PrefixLength():]
		switch {
		case rest == "":
			return w.prefix, texts
		case strings.HasSuffix(w.prefix, "/"):
			rest = strings.TrimPrefix(rest, "/")
		}
		return join(texts, w.prefix, rest)
	case w.template != nil:
		return expand(texts, w.template, params)
	case w.regex != nil:
		if p := w.regex.ReplaceAllString(path, w.subst); validPath(p) {
			return p, texts
		}
	}
	return "", texts
}

// ForwardedPrefix returns what the service has to put before its own paths to get those that clients see, which the
// field X-Forwarded-Prefix tells it: what the rewriting has taken away of a path that has matched, after what a proxy
// before the node has taken away, which before says; empty: nothing. texts is appended to.
func (w *Rewrite) ForwardedPrefix(path string, params *match.Params, before string, texts *[]byte) string {
	if !w.isPrefix {
		return ""
	}
	taken, whole := strings.CutSuffix(path[:params.PrefixLength()], strings.TrimSuffix(w.prefix, "/"))
	if taken = strings.TrimSuffix(taken, "/"); !whole || taken == "" {
		return ""
	}
	if validPath(before) && strings.IndexByte(before, ',') < 0 {
		taken, *texts = join(*texts, strings.TrimSuffix(before, "/"), taken)
	}
	return taken
}

// expand puts a path together after what is in memory.
func expand(memory []byte, parts []config.TemplatePart, params *match.Params) (string, []byte) {
	start := len(memory)
	for i := range parts {
		text := parts[i].Literal
		if parts[i].Param != "" {
			text, _ = params.Get(parts[i].Param)
		}
		memory = append(memory, text...)
	}
	return view(memory, start)
}

// join puts a text together after what is in memory.
func join(memory []byte, a, b string) (string, []byte) {
	start := len(memory)
	return view(append(append(memory, a...), b...), start)
}

func view(memory []byte, start int) (string, []byte) {
	b := memory[start:]
	return unsafe.String(unsafe.SliceData(b), len(b)), memory
}

// validPath reports whether a path that nobody has checked yet can stand in a request line.
func validPath(p string) bool {
	for i := range len(p) {
		if p[i] <= ' ' || p[i] >= 0x7f || p[i] == '?' || p[i] == '#' {
			return false
		}
	}
	return p != "" && p[0] == '/'
}
