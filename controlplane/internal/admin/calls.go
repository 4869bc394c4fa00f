package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"gateway.internal/shared/fault"
	"gateway.internal/shared/reason"
	"gateway.internal/shared/suggest"
)

// call is what a REST call takes besides its path, as its description has it.
type call struct {
	query map[string]bool
	body  bool
}

// calls are all REST calls by method and path template. What a call does not take is refused before anything is done:
// it is grpc-gateway's way to ignore it, and "dry_run" in the wrong place would then change something.
type calls map[string][]callAt

type callAt struct {
	segments []string // "" stands for any one
	call
}

// callsOf reads an OpenAPI document.
func callsOf(openAPI []byte) (calls, error) {
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters  []struct{ Name, In string }
			RequestBody json.RawMessage
		}
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		return nil, fmt.Errorf("read the description of REST: %w", err)
	}
	all := calls{}
	for path, methods := range doc.Paths {
		segments := strings.Split(path, "/")
		for i, s := range segments {
			if strings.HasPrefix(s, "{") {
				segments[i] = ""
			}
		}
		for method, operation := range methods {
			c := call{query: map[string]bool{}, body: operation.RequestBody != nil}
			for _, p := range operation.Parameters {
				if p.In == "query" {
					c.query[p.Name] = true
				}
			}
			method = strings.ToUpper(method)
			all[method] = append(all[method], callAt{segments, c})
		}
	}
	return all, nil
}

// find returns the call that a request is, and false for none: then the request goes nowhere.
func (all calls) find(method, path string) (call, bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	segments := strings.Split(path, "/")
	for _, c := range all[method] {
		if slices.EqualFunc(c.segments, segments, func(want, have string) bool { return want == "" && have != "" || want == have }) {
			return c.call, true
		}
	}
	return call{}, false
}

// allowed returns the methods that a path takes, sorted; none where there is nothing.
func (all calls) allowed(path string) (methods []string) {
	if described()[path] != nil {
		return []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	}
	for method := range all {
		if _, ok := all.find(method, path); ok {
			methods = append(methods, method)
		}
	}
	if len(methods) == 0 {
		return nil
	}
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	methods = append(methods, http.MethodOptions)
	slices.Sort(methods)
	return methods
}

// checkUTF8 refuses what can't be passed on as text.
func checkUTF8(r *http.Request) error {
	if !utf8.ValidString(r.URL.Path) {
		return failure(fault.InvalidArgument, "the path has escapes that are not UTF-8")
	}
	for name, values := range r.URL.Query() {
		if !utf8.ValidString(name) || !utf8.ValidString(strings.Join(values, "")) {
			return failure(fault.InvalidArgument, fmt.Sprintf("the query parameter %q has escapes that are not UTF-8", strings.ToValidUTF8(name, "\uFFFD")))
		}
	}
	return nil
}

// checkQuery refuses query parameters that the call does not have.
func (c call) checkQuery(r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return failure(fault.InvalidArgument, "the query can't be read: "+reason.Of(err))
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !c.query[name] {
			return c.takesNo(name, "query parameter of this call")
		}
	}
	return nil
}

// takesNo says that a parameter is none of the call, with those that are.
func (c call) takesNo(name, what string) error {
	known := "this call has none"
	if len(c.query) > 0 {
		known = "there are " + strings.Join(slices.Sorted(maps.Keys(c.query)), ", ")
		if near := suggest.Nearest(name, maps.Keys(c.query)); near != "" {
			known = fmt.Sprintf("did you mean %q? ", near) + known
		}
	}
	return invalid(name, "", "is no "+what+": "+known)
}

// checkBody refuses a body that the call does not take, and what is more than one JSON value. The members of an object
// that is sent to a call without a body are its query parameters: it returns the body and the query that go on.
func (c call) checkBody(body []byte, rawQuery string) ([]byte, string, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil, rawQuery, nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if c.body {
		var whole json.RawMessage
		if dec.Decode(&whole) == nil && len(bytes.TrimSpace(body[dec.InputOffset():])) > 0 {
			return nil, "", failure(fault.InvalidArgument, fmt.Sprintf("the body goes on after its JSON value, at byte %d", dec.InputOffset()))
		}
		return body, rawQuery, nil // what is no JSON the call's own reader says better
	}
	var members map[string]any
	if err := dec.Decode(&members); err != nil || len(bytes.TrimSpace(body[dec.InputOffset():])) > 0 {
		return nil, "", failure(fault.InvalidArgument, "this call takes no body but an object of its query parameters")
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, "", failure(fault.InvalidArgument, "the query can't be read: "+reason.Of(err))
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch {
		case !c.query[name]:
			return nil, "", c.takesNo(name, "member of this call's body")
		case query.Has(name):
			return nil, "", invalid(name, "", "is in the query and in the body")
		}
		switch v := members[name].(type) {
		case nil:
		case string:
			query.Set(name, v)
		case bool, json.Number:
			query.Set(name, fmt.Sprint(v))
		default:
			return nil, "", invalid(name, "", "has to be a string, a number or a boolean")
		}
	}
	return nil, query.Encode(), nil
}
