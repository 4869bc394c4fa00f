// Package reason puts into plain words why something that a user wrote could not be read. Libraries say it in the
// words of their own code: with the names of their packages, functions and types, which mean nothing to whoever wrote
// the text.
package reason

import (
	"regexp"
	"strings"
)

// Of is Text for an error.
func Of(err error) string { return Text(err.Error()) }

// placeInJSON is where protobuf says that something is wrong.
var placeInJSON = regexp.MustCompile(`^(?:syntax error )?\(line \d+, column \d+\): `)

// WithoutPlace is Of without the place in a JSON text that the user did not write: it may have been YAML, or a part of
// another text.
func WithoutPlace(err error) string { return placeInJSON.ReplaceAllString(Of(err), "") }

// rule is a form of words that is replaced.
type rule struct {
	is *regexp.Regexp
	by string
}

// rules are applied in turn.
var rules = []rule{
	{regexp.MustCompile(`rpc error: code = \w+ desc = `), ""},
	{regexp.MustCompile(`parsing field "([\w.]+)": `), `$1: `},
	{regexp.MustCompile(`type mismatch, parameter: ([\w.]+), error: `), `$1: `},
	{regexp.MustCompile(`(?:strconv\.)?ParseUint: parsing ("-[0-9]+"): invalid syntax`), `$1 is below 0`},
	{regexp.MustCompile(`(?:strconv\.)?(?:Parse(?:Uint|Int)|Atoi): parsing ("(?:[^"\\]|\\.)*"): invalid syntax`),
		`$1 is no whole number`},
	{regexp.MustCompile(`(?:strconv\.)?ParseFloat: parsing ("(?:[^"\\]|\\.)*"): invalid syntax`), `$1 is no number`},
	{regexp.MustCompile(`(?:strconv\.)?ParseBool: parsing ("(?:[^"\\]|\\.)*"): invalid syntax`),
		`$1 is neither true nor false`},
	{regexp.MustCompile(`(?:strconv\.)?\w+: parsing ("(?:[^"\\]|\\.)*"): value out of range`),
		`$1 is a number that is too large or too small`},
	{regexp.MustCompile(`time: (?:invalid duration|unknown unit "(?:[^"\\]|\\.)*" in duration|missing unit in ` +
		`duration) ("(?:[^"\\]|\\.)*")`),
		`$1 is no duration such as "250ms", "30s" or "24h"`},
	{regexp.MustCompile(`(?:netip\.)?\bParse(?:Addr|AddrPort|Prefix)\(("(?:[^"\\]|\\.)*")\): .*`), `$1 is no IP address`},
	{regexp.MustCompile(`parsing time ("(?:[^"\\]|\\.)*").*`), `$1 is no time such as "2026-01-31T12:00:00Z"`},
	{regexp.MustCompile(`json: cannot unmarshal (\w+) into Go (?:value|struct field \S+) of type \S+`),
		`a $1 stands where something else has to be`},
	{regexp.MustCompile(`\binvalid value for (?:u?int(?:32|64)) (?:field|type)`), `invalid value for the whole number`},
	{regexp.MustCompile(`\binvalid value for (?:float|double) (?:field|type)`), `invalid value for the number`},
	{regexp.MustCompile(`\binvalid value for bool (?:field|type)`), `invalid value for the boolean`},
	{regexp.MustCompile(`\binvalid value for (\w+) (?:field|type)`), `invalid value for the $1`},
	{regexp.MustCompile(`\(line (\d+):(\d+)\)`), `(line $1, column $2)`},
	{regexp.MustCompile(`(^|: )(?:proto|json|x509|tls|asn1|yaml|mime|hex|base64|url|netip|net|regexp|time|strconv|pem|rsa|ecdsa):\s+`), `$1`},
	{regexp.MustCompile(`error parsing regexp: `), ``},
	{regexp.MustCompile(`google\.protobuf\.(\w+)`), `$1`},
}

// Text puts what a library said into plain words: without the names of Go's packages, functions and types.
func Text(s string) string {
	s = strings.ReplaceAll(s, "\u00a0", " ") // protobuf's, which says so that nobody relies on its words
	for _, r := range rules {
		s = r.is.ReplaceAllString(s, r.by)
	}
	return s
}
