// Package template reads texts with variables, such as "user of ${client.address}": what variables there are, where
// they can stand, and what a text is made of. It does not know their values.
package template

import (
	"fmt"
	"slices"
	"strings"

	"gateway.internal/shared/suggest"
)

// Variable is something that is known of an exchange.
type Variable uint8

// The variables; None is literal text.
const (
	None Variable = iota
	ClientAddress
	ClientPort
	Consumer
	Endpoint
	ErrorCode
	ErrorMessage
	Fact
	PathParameter
	RequestHeader
	RequestHost
	RequestID
	RequestMethod
	RequestPath
	RequestQuery
	RequestScheme
	RequestVersion
	ResponseStatus
	Route
	Service
	TLSCipher
	TLSClientFingerprint
	TLSClientIssuer
	TLSClientSAN
	TLSClientSerial
	TLSClientSubject
	TLSServerName
	TLSVersion
)

// Place is where a text stands; places are bits.
type Place uint8

// The places.
const (
	// InRequest is a field of a request to a service.
	InRequest Place = 1 << iota
	// InResponse is a field of a response to a client.
	InResponse
	// InError is the body of an error of the gateway.
	InError

	anywhere = InRequest | InResponse | InError
	after    = InResponse | InError
)

type definition struct {
	variable Variable
	places   Place
	// argument tells that what the name stands before is chosen by whoever uses it: "path." is for "path.id".
	argument bool
}

var definitions = map[string]definition{
	"client.address":         {ClientAddress, anywhere, false},
	"client.port":            {ClientPort, anywhere, false},
	"consumer":               {Consumer, anywhere, false},
	"endpoint":               {Endpoint, after, false},
	"error.code":             {ErrorCode, InError, false},
	"error.message":          {ErrorMessage, InError, false},
	"fact.":                  {Fact, anywhere, true},
	"path.":                  {PathParameter, anywhere, true},
	"request.header.":        {RequestHeader, anywhere, true},
	"request.host":           {RequestHost, anywhere, false},
	"request.id":             {RequestID, anywhere, false},
	"request.method":         {RequestMethod, anywhere, false},
	"request.path":           {RequestPath, anywhere, false},
	"request.query":          {RequestQuery, anywhere, false},
	"request.scheme":         {RequestScheme, anywhere, false},
	"request.version":        {RequestVersion, anywhere, false},
	"response.status":        {ResponseStatus, after, false},
	"route":                  {Route, anywhere, false},
	"service":                {Service, anywhere, false},
	"tls.cipher":             {TLSCipher, anywhere, false},
	"tls.client.fingerprint": {TLSClientFingerprint, anywhere, false},
	"tls.client.issuer":      {TLSClientIssuer, anywhere, false},
	"tls.client.san":         {TLSClientSAN, anywhere, false},
	"tls.client.serial":      {TLSClientSerial, anywhere, false},
	"tls.client.subject":     {TLSClientSubject, anywhere, false},
	"tls.server_name":        {TLSServerName, anywhere, false},
	"tls.version":            {TLSVersion, anywhere, false},
}

// Names returns the names of the variables that can stand in a place, in order. Those that end with "." take an
// argument.
func Names(in Place) []string {
	var names []string
	for name, d := range definitions {
		if d.places&in != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Part is literal text or a variable.
type Part struct {
	// Literal is the text where Variable is None.
	Literal string
	// Variable is what stands there.
	Variable Variable
	// Argument is the parameter's name of PathParameter, the field's of RequestHeader and the fact's of Fact.
	Argument string
}

const (
	// MaxVariables is how many variables a text may have.
	MaxVariables = 64
	maxArgument  = 256
)

// Parse takes a text apart. "${name}" is a variable, "$${" the text "${", and any other "$" is itself. Errors say what
// is wrong with the text, as "is ..." or "uses ...".
func Parse(text string, in Place) ([]Part, error) {
	var parts []Part
	var literal strings.Builder
	end := func() {
		if literal.Len() > 0 {
			parts = append(parts, Part{Literal: literal.String()})
			literal.Reset()
		}
	}
	variables := 0
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			literal.WriteString(text)
			end()
			return parts, nil
		}
		if plain, escaped := strings.CutSuffix(before, "$"); escaped {
			literal.WriteString(plain)
			literal.WriteString("${")
			text = rest
			continue
		}
		literal.WriteString(before)
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf(`has a "${" without "}"; "$${" stands for the text "${"`)
		}
		part, err := parse(name, in)
		if err != nil {
			return nil, err
		}
		if variables++; variables > MaxVariables {
			return nil, fmt.Errorf("uses more than %d variables", MaxVariables)
		}
		end()
		parts = append(parts, part)
		text = after
	}
}

func parse(name string, in Place) (Part, error) {
	d, known := definitions[name]
	part := Part{Variable: d.variable}
	if !known || d.argument {
		if d, part = withArgument(name); part.Variable == None {
			return part, unknown(name, in)
		}
	}
	switch {
	case d.argument && !validArgument(part.Argument):
		return part, fmt.Errorf("uses ${%s}, in which no name follows", name)
	case d.places&in == 0:
		return part, fmt.Errorf("uses ${%s}, which is not known there: there are %s", name, list(in))
	}
	return part, nil
}

func withArgument(name string) (definition, Part) {
	for prefix, d := range definitions {
		if argument, ok := strings.CutPrefix(name, prefix); ok && d.argument {
			return d, Part{Variable: d.variable, Argument: argument}
		}
	}
	return definition{}, Part{}
}

func validArgument(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}$`, c) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= maxArgument
}

func unknown(name string, in Place) error {
	names := Names(in)
	if near := suggest.Nearest(name, slices.Values(names)); near != "" && !strings.HasSuffix(near, ".") {
		return fmt.Errorf("uses ${%s}, which is no variable; did you mean ${%s}?", name, near)
	}
	return fmt.Errorf("uses ${%s}, which is no variable: there are %s", name, list(in))
}

func list(in Place) string {
	names := Names(in)
	for i, n := range names {
		if strings.HasSuffix(n, ".") {
			names[i] += "NAME"
		}
	}
	return strings.Join(names, ", ")
}
