package pathnorm

import (
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestDefaults(t *testing.T) {
	r := Compile(DefaultSettings())
	for _, c := range []struct{ path, want string }{ // a reason starts with "the"
		{"/", "/"},
		{"/a/b", "/a/b"},
		{"/a/", "/a/"},
		{"/a.b/.c/..d/...", "/a.b/.c/..d/..."},
		{"/.well-known/x", "/.well-known/x"},
		{"/a//b", "/a/b"},
		{"//", "/"},
		{"/a///", "/a/"},
		{"//admin", "/admin"},
		{"/%61dmin", "/admin"},
		{"/a%2Db%7Ec%2e%5F", "/a-b~c._"},
		{"/%c3%bc", "/%C3%BC"},
		{"/%40%3A", "/%40%3A"},
		{"/%252e%252e/", "/%252e%252e/"},
		{"/a;x=1/b", "/a;x=1/b"},
		{"/a%3Bx", "/a%3Bx"},
		{"/|[]!$&'()*+,;=:@^", "/|[]!$&'()*+,;=:@^"},
		{"/%F0%9F%98%80", "/%F0%9F%98%80"},

		{"", reasonForm},
		{"*", reasonForm},
		{"a", reasonForm},
		{"/a/.", reasonDots},
		{"/a/..", reasonDots},
		{"/../a", reasonDots},
		{"/a/./b", reasonDots},
		{"/a/%2e%2E/b", reasonDots},
		{"/a/.%2e", reasonDots},
		{"/a/..;/b", reasonDots},
		{"/a/..;x=1", reasonDots},
		{"/a/.%2e%3b/b", reasonDots},
		{"/a/.;", reasonDots},
		{"/a%2fb", reasonSlash},
		{"/a%5Cb", reasonBackslash},
		{`/a\b`, reasonCharacter},
		{`/a"b`, reasonCharacter},
		{"/a<b>", reasonCharacter},
		{"/a{b}", reasonCharacter},
		{"/a`b", reasonCharacter},
		{"/a b", reasonCharacter},
		{"/a\x00", reasonCharacter},
		{"/a?b", reasonCharacter},
		{"/a#b", reasonCharacter},
		{"/ü", reasonCharacter},
		{"/%00", reasonNUL},
		{"/%0a", reasonControl},
		{"/%7f", reasonControl},
		{"/%", reasonEscape},
		{"/%4", reasonEscape},
		{"/%zz", reasonEscape},
		{"/%u002e", reasonEscape},
		{"/%%32f", reasonEscape},
		{"/%ff", reasonUTF8},
		{"/%c0%ae", reasonUTF8},
		{"/%ed%a0%80", reasonUTF8},
		{"/%c3/%bc", reasonUTF8},
		{"/%c3", reasonUTF8},
		{"/%bc", reasonUTF8},
	} {
		got, _, refused := r.Apply(c.path, nil)
		if refused != "" {
			got = refused
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.path, got, c.want)
		}
	}
}

func TestChoices(t *testing.T) {
	for _, c := range []struct {
		set        string // settings on top of the defaults, NAME=ACTION
		path, want string
	}{
		{"dot-segments=normalise", "/a/b/../c/./d", "/a/c/d"},
		{"dot-segments=normalise", "/a/b/..", "/a/"},
		{"dot-segments=normalise", "/a/b/.", "/a/b/"},
		{"dot-segments=normalise", "/a/%2e%2e/b", "/b"},
		{"dot-segments=normalise", "/a//../b", "/b"},
		{"dot-segments=normalise", "/..", reasonAboveRoot},
		{"dot-segments=normalise", "/a/../../b", reasonAboveRoot},
		{"dot-segments=normalise", "/a/..;x/b", reasonDots},
		{"dot-segments=normalise empty-segments=keep", "/a//../b", "/a/b"},
		{"dot-segments=normalise unneeded-escapes=keep", "/a/%2e%2e/b", "/b"},
		{"dot-segments=normalise parameters=normalise", "/a/..;x/b", "/b"},
		{"dot-segments=normalise encoded-slash=keep", "/a/x%2f..%2fb", reasonDots},
		{"dot-segments=normalise encoded-slash=normalise", "/a/x%2f..%2fb", "/a/b"},
		{"dot-segments=keep", "/a/../b", "/a/../b"},
		{"dot-segments=keep", "/a/..;x/b", "/a/..;x/b"},
		{"empty-segments=refuse", "/a//b", reasonEmpty},
		{"empty-segments=keep", "//a///b//", "//a///b//"},
		{"encoded-slash=keep", "/a%2fb", "/a%2Fb"},
		{"encoded-slash=keep", "/a%2f..%2fb", reasonDots},
		{"encoded-slash=keep", "/a%2f%2e%2e", reasonDots},
		{"encoded-slash=keep", "/..%2fb", reasonDots},
		{"encoded-slash=normalise", "/a%2fb", "/a/b"},
		{"encoded-slash=normalise", "/a%2f%2fb", "/a/b"},
		{"encoded-slash=normalise", "/a%2f../b", reasonDots},
		{"encoded-backslash=keep", "/a%5cb", "/a%5Cb"},
		{"encoded-backslash=keep", "/a%5c..%5cb", reasonDots},
		{"encoded-backslash=normalise", "/a%5cb", "/a/b"},
		{"encoded-nul=keep", "/a%00", "/a%00"},
		{"encoded-control=keep", "/a%0a", "/a%0A"},
		{"invalid-utf8=keep", "/%ff", "/%FF"},
		{"unescaped=keep", "/a\"<>`{}", "/a\"<>`{}"},
		{"unescaped=normalise", "/a\"<>`{}|^", "/a%22%3C%3E%60%7B%7D|^"},
		{"unescaped=normalise escape-case=refuse", "/{", "/%7B"},
		{"unescaped=normalise", `/a\b`, reasonBackslash},
		{"unescaped=keep", `/a\b`, reasonBackslash},
		{"unescaped=keep encoded-backslash=keep", `/a\b`, "/a%5Cb"},
		{"unescaped=keep encoded-backslash=keep", `/a\..\b`, reasonDots},
		{"unescaped=normalise encoded-backslash=keep", `/a\b`, "/a%5Cb"},
		{"unescaped=normalise encoded-backslash=normalise", `/a\b`, "/a/b"},
		{"unescaped=normalise encoded-backslash=normalise", `/a\..\b`, reasonDots},
		{"unescaped=keep", "/a b", reasonCharacter},
		{"unescaped=keep", "/a\x7f", reasonCharacter},
		{"unescaped=normalise", "/a\tb", reasonCharacter},
		{"unescaped=normalise", "/a#b", reasonCharacter},
		{"unescaped=keep", "/ü", reasonCharacter},
		{"unneeded-escapes=refuse", "/%41", reasonUnneeded},
		{"unneeded-escapes=keep", "/%41%7e", "/%41%7E"},
		{"unneeded-escapes=keep", "/%2e%2e/", reasonDots},
		{"escape-case=refuse", "/%c3%BC", reasonCase},
		{"escape-case=refuse", "/%C3%bC", reasonCase},
		{"escape-case=refuse", "/%C3%BC", "/%C3%BC"},
		{"escape-case=keep", "/%c3%BC", "/%c3%BC"},
		{"parameters=refuse", "/a;b/c", reasonParameters},
		{"parameters=normalise", "/a;b/c;d", "/a/c"},
		{"parameters=normalise", "/;b/c", "/c"},
	} {
		s := DefaultSettings()
		for pair := range strings.FieldsSeq(c.set) {
			name, action, _ := strings.Cut(pair, "=")
			for _, o := range s.Options() {
				if o.Name == name {
					if err := o.Action.Set(action); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		got, _, refused := Compile(s).Apply(c.path, nil)
		if refused != "" {
			got = refused
		}
		if got != c.want {
			t.Errorf("%s, %q: got %q, want %q", c.set, c.path, got, c.want)
		}
	}
}

func TestSettings(t *testing.T) {
	s := DefaultSettings()
	s.EncodedNUL = Normalise
	if err := s.Check(); err == nil || err.Error() != "encoded-nul can't be normalised: has to be refuse or keep" {
		t.Errorf("got %v", err)
	}
	var a Action
	if err := a.Set("normalize"); err == nil {
		t.Error("an unknown action was taken")
	}
	if a.Set("keep") != nil || a != Keep || a.String() != "keep" {
		t.Errorf("got %v", a)
	}
}

// Paths that Apply takes as they are cost no memory; others none beyond what the caller lends.
func TestApplyDoesNotAllocate(t *testing.T) {
	r := Compile(DefaultSettings())
	memory := make([]byte, 0, 256)
	for _, p := range []string{"/api/v1/users/42/orders", "/api//v1/%7Euser/%c3%bc", "/.well-known/x"} {
		if n := testing.AllocsPerRun(100, func() {
			if _, memory, _ = r.Apply(p, memory); memory == nil {
				t.Fatal("the memory is lost")
			}
		}); n != 0 {
			t.Errorf("%q: %v allocations", p, n)
		}
	}
}

func TestApplyReusesMemory(t *testing.T) {
	r := Compile(DefaultSettings())
	first, memory, _ := r.Apply("/"+strings.Repeat("%41", 100), nil)
	if first != "/"+strings.Repeat("A", 100) || cap(memory) < 101 {
		t.Fatalf("got %q with %d bytes", first, cap(memory))
	}
	if _, again, _ := r.Apply("/%42", memory); cap(again) != cap(memory) || again[1] != 'B' || memory[1] != 'B' {
		t.Error("other memory was taken")
	}
}

// drawSettings makes any settings that Check passes.
func drawSettings(t *rapid.T) Settings {
	var s Settings
	for _, o := range s.Options() {
		*o.Action = Action(rapid.IntRange(0, 2).Draw(t, o.Name))
		if o.NotNormal && *o.Action == Normalise {
			*o.Action = Keep
		}
	}
	return s
}

// drawPath makes paths of the parts that matter.
func drawPath(t *rapid.T) string {
	return "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
		"/", "/", "/", "a", "b", ".", "..", "/..", "/../", "/./", "%2e", "%2E%2e", ";", ";x", "%3b", "%2f", "%2F", "%5c", "%41", "%7E", "%c3%bc", "%C3", "%ff", "%00", "%0d", "%25", "%", "\\", "{", "^", `"`, " ",
	}), 0, 8).Draw(t, "parts"), "")
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, p := drawSettings(t), drawPath(t)
		checkIdempotent(t, Compile(s), p)
	})
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func checkIdempotent(t fataler, r *Rules, p string) {
	once, _, refused := r.Apply(p, nil)
	if refused != "" {
		return
	}
	again, _, refused := r.Apply(once, nil)
	if refused != "" || again != once {
		t.Fatalf("%+v: %q becomes %q, and that %q (%s)", r.set, p, once, again, refused)
	}
}

// TestStaysBelowItsPrefix reads what is forwarded as services do, by net/url, with and without path.Clean, with
// parameters and with backslashes: it must stay below every prefix that a route could have matched it by.
func TestStaysBelowItsPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, p := drawSettings(t), drawPath(t)
		if s.DotSegments == Keep {
			s.DotSegments = Refuse
		}
		checkBelow(t, Compile(s), p)
	})
}

func checkBelow(t fataler, r *Rules, p string) {
	out, _, refused := r.Apply(p, nil)
	if refused != "" {
		return
	}
	u, err := url.ParseRequestURI(out)
	if err != nil {
		t.Fatalf("%+v: net/url can't read %q, which %q became: %v", r.set, out, p, err)
	}
	whole := readings(u.Path)
	for i := 1; i < len(out); i++ {
		if out[i] != '/' {
			continue
		}
		prefix, err := url.PathUnescape(out[:i])
		if err != nil {
			t.Fatalf("%+v: the prefix %q of %q: %v", r.set, out[:i], out, err)
		}
		for k, reading := range readings(prefix) {
			above, all := path.Clean(reading), path.Clean(whole[k])
			if above != "/" && all != above && !strings.HasPrefix(all, above+"/") {
				t.Fatalf("%+v: %q becomes %q, which a service reads as %q: not below %q", r.set, p, out, all, above)
			}
		}
	}
}

// readings are the ways in which services split a decoded path.
func readings(p string) []string {
	stripped := func(p string) string {
		segments := strings.Split(p, "/")
		for i, s := range segments {
			segments[i], _, _ = strings.Cut(s, ";")
		}
		return strings.Join(segments, "/")
	}
	slashed := strings.ReplaceAll(p, `\`, "/")
	return []string{p, slashed, stripped(p), stripped(slashed)}
}

// With the defaults, nothing is left that services read in different ways, but parameters.
func TestDefaultsLeaveNoDoubt(t *testing.T) {
	r := Compile(DefaultSettings())
	rapid.Check(t, func(t *rapid.T) {
		p := drawPath(t)
		checkNoDoubt(t, r, p)
	})
}

func checkNoDoubt(t fataler, r *Rules, p string) {
	out, _, refused := r.Apply(p, nil)
	if refused != "" {
		return
	}
	u, err := url.ParseRequestURI(out)
	if err != nil {
		t.Fatalf("net/url can't read %q, which %q became: %v", out, p, err)
	}
	clean := path.Clean(u.Path)
	if strings.HasSuffix(out, "/") && clean != "/" {
		clean += "/"
	}
	if clean != u.Path {
		t.Fatalf("%q becomes %q, which path.Clean makes %q", p, out, clean)
	}
	if !utf8.ValidString(u.Path) || strings.ContainsAny(u.Path, "\x00\r\n\\") {
		t.Fatalf("%q becomes %q, which decodes to %q", p, out, u.Path)
	}
}

func FuzzApply(f *testing.F) {
	for i, p := range []string{"/a/b", "/a//b/../c", "/%2e%2e/%2f", "/a;b/..;/c", "/%c3%bc/%ff", "/%41%7e%00", `/\`, "/a/.%2e%5c..%3b"} {
		f.Add(p, uint32(i*7919))
	}
	f.Fuzz(func(t *testing.T, p string, choices uint32) {
		if len(p) > 200 {
			return // every prefix is looked at: the checks are quadratic
		}
		var s Settings
		for _, o := range s.Options() {
			*o.Action = Action(choices % 3)
			choices /= 3
			if o.NotNormal && *o.Action == Normalise {
				*o.Action = Keep
			}
		}
		r := Compile(s)
		checkIdempotent(t, r, p)
		if s.DotSegments != Keep {
			checkBelow(t, r, p)
		}
		checkNoDoubt(t, Compile(DefaultSettings()), p)
	})
}

func BenchmarkApply(b *testing.B) {
	r := Compile(DefaultSettings())
	for name, p := range map[string]string{"clean": "/api/v1/users/42/orders", "dot file": "/.well-known/acme/token", "rewritten": "/api/v1//users/%7eann"} {
		b.Run(name, func(b *testing.B) {
			var memory []byte
			b.ReportAllocs()
			for b.Loop() {
				var refused string
				if _, memory, refused = r.Apply(p, memory); refused != "" {
					b.Fatal(refused)
				}
			}
		})
	}
}

func TestSettingsOfRoutes(t *testing.T) {
	s, err := DefaultSettings().With(map[string]string{"encoded_slash": "keep", "dot_segments": "normalise"})
	if err != nil || s.EncodedSlash != Keep || s.DotSegments != Normalise || s.EncodedBackslash != Refuse || s.Parameters != Keep {
		t.Errorf("%+v, %v", s, err)
	}
	for _, actions := range []map[string]string{{"encoded_nul": "normalise"}, {"dot_segments": "maybe"}} {
		if _, err := DefaultSettings().With(actions); err == nil {
			t.Errorf("%v was taken", actions)
		}
	}
}

// What is refused is for whoever is most probably meant.
func TestMeant(t *testing.T) {
	r := Compile(DefaultSettings())
	for path, want := range map[string]string{
		"/a%2fb": "/a/b", "/a%5Cb": "/a/b", `/a\b`: "/a/b", "/a/./b/../c": "/a/c", "/a%00": "/a%00", "/{a}": "/%7Ba%7D",
		"/a/../../b": reasonAboveRoot, "/%zz": reasonEscape, "/a b": reasonCharacter, "/a/..;/b": reasonDots,
	} {
		got, _, refused := r.Meant(path, nil)
		if refused != "" {
			got = refused
		}
		if got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}
