// Package pathnorm brings the paths of request targets into one form, once, before anything looks at them: routes are
// matched, access rules are applied and services are reached with the same bytes. What a service might read as another
// path than the one that was matched is refused, normalised or kept, as the node's settings say. It knows no requests
// and no routes.
package pathnorm

import (
	"cmp"
	"fmt"
	"strings"
)

// Action is what happens to a path that has something. The zero value is Refuse.
type Action uint8

// The actions.
const (
	// Refuse answers 400.
	Refuse Action = iota
	// Normalise brings the path into the form that means the same.
	Normalise
	// Keep leaves it as it was sent, for matching and for the service.
	Keep
)

var actionNames = [...]string{Refuse: "refuse", Normalise: "normalise", Keep: "keep"}

// String returns the action's name in settings.
func (a Action) String() string { return actionNames[a] }

// Set implements pflag.Value.
func (a *Action) Set(s string) error {
	for i, name := range actionNames {
		if s == name {
			*a = Action(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no action: refuse, normalise or keep", s)
}

// Type implements pflag.Value.
func (a *Action) Type() string { return "action" }

// Settings say what happens to each kind of doubt about a path. The zero value refuses all.
//
// Some things have no setting: a % that two hexadecimal digits do not follow, spaces, control characters and what is
// not ASCII, unless they are escaped. They are refused.
type Settings struct {
	// DotSegments are the segments "." and "..", plain or escaped. Normalise removes them (RFC 3986 section 5.2.4), but
	// refuses a path that would climb above its root, and one in which they stand beside parameters or kept escapes of
	// slashes, since only some services see them there.
	DotSegments Action
	// EmptySegments are slashes side by side. Normalise makes one of them.
	EmptySegments Action
	// EncodedSlash is %2F. Normalise makes it a slash, before the segments are looked at.
	EncodedSlash Action
	// EncodedBackslash is %5C. Normalise makes it a slash, as some services read it, before the segments are looked at.
	EncodedBackslash Action
	// EncodedNUL is %00, where some services take a path to end. It can't be normalised.
	EncodedNUL Action
	// EncodedControl is any other escaped control character, %01 to %1F and %7F. It can't be normalised.
	EncodedControl Action
	// InvalidUTF8 is a path that is not UTF-8 once it is decoded. It can't be normalised.
	InvalidUTF8 Action
	// Unescaped are the characters that may only stand in a path as escapes, but that some clients send as they are: "
	// < > \ ` { }. Normalise escapes them. A backslash is then treated as %5C is, by EncodedBackslash, and with Keep
	// too.
	Unescaped Action
	// UnneededEscapes are those of letters, digits, "-", ".", "_" and "~", which mean the same without (RFC 3986
	// section 6.2.2.2).
	UnneededEscapes Action
	// EscapeCase is about lower-case digits in escapes, which mean the same in upper case (RFC 3986 section 6.2.2.1).
	EscapeCase Action
	// Parameters are what follows ";" in a segment. Normalise takes them away, as servlet containers do for their own
	// rules.
	Parameters Action
}

// DefaultSettings are strict: what RFC 3986 section 6.2.2 calls equivalent is normalised, and so are slashes side by
// side, which nginx, Apache and Go's own router merge too, since a service that merges them would serve //admin under
// rules that were made for other paths than /admin. Where services differ on which path is meant (dot segments, escaped
// slashes), and what no honest client sends, is refused. Parameters are kept: they are ordinary characters to RFC 3986
// and to most services.
func DefaultSettings() Settings {
	return Settings{EmptySegments: Normalise, UnneededEscapes: Normalise, EscapeCase: Normalise, Parameters: Keep}
}

// Option is one setting with its name and what it is about, for flags and documentation.
type Option struct {
	// Name is such as "dot-segments".
	Name string
	// About says what the setting applies to.
	About string
	// Action is the field of the settings.
	Action *Action
	// NotNormal is set where Normalise is no choice.
	NotNormal bool
}

// Options returns all settings, in the order of the documentation.
func (s *Settings) Options() []Option {
	return []Option{
		{"dot-segments", `the segments "." and "..", plain or escaped`, &s.DotSegments, false},
		{"empty-segments", "slashes side by side", &s.EmptySegments, false},
		{"encoded-slash", "%2F (normalise: a slash)", &s.EncodedSlash, false},
		{"encoded-backslash", "%5C (normalise: a slash)", &s.EncodedBackslash, false},
		{"encoded-nul", "%00", &s.EncodedNUL, true},
		{"encoded-control", "escaped control characters but %00", &s.EncodedControl, true},
		{"invalid-utf8", "what is not UTF-8 once it is decoded", &s.InvalidUTF8, true},
		{
			"unescaped",
			"characters that have to be escaped, \" < > \\ ` { } (normalise: escaped; a backslash is then as %5C)",
			&s.Unescaped, false,
		},
		{"unneeded-escapes", "escapes of letters, digits and -._~", &s.UnneededEscapes, false},
		{"escape-case", "lower-case digits in escapes", &s.EscapeCase, false},
		{"parameters", `";" and what follows it in a segment (normalise: without)`, &s.Parameters, false},
	}
}

// Compare orders settings: negative when s goes before o, 0 when they are the same. The order means nothing.
func (s Settings) Compare(o Settings) int {
	own, others := s.Options(), o.Options()
	for i := range own {
		if c := cmp.Compare(*own[i].Action, *others[i].Action); c != 0 {
			return c
		}
	}
	return 0
}

// With returns the settings with other actions for some options, by their names; underscores stand for the hyphens.
func (s Settings) With(actions map[string]string) (Settings, error) {
	for _, o := range s.Options() {
		name := strings.ReplaceAll(o.Name, "-", "_")
		action, there := actions[name]
		if !there {
			continue
		}
		if err := o.Action.Set(action); err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
	}
	return s, s.Check()
}

// loose returns settings that refuse as little as can be without leaving more than one way to read a path.
func (s Settings) loose() Settings {
	for _, o := range s.Options() {
		switch {
		case *o.Action != Refuse:
		case o.NotNormal:
			*o.Action = Keep
		default:
			*o.Action = Normalise
		}
	}
	return s
}

// Check reports a setting that can't be.
func (s Settings) Check() error {
	for _, o := range s.Options() {
		if o.NotNormal && *o.Action == Normalise {
			return fmt.Errorf("%s can't be normalised: has to be refuse or keep", o.Name)
		}
	}
	return nil
}
