package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1/hostiletest"
)

// These tests hold our reading of a connection's bytes against net/http's. What we take, net/http has to take as well,
// and to understand as the same messages with the same bodies; that we refuse more is what we are for. The exceptions
// are in laxer, each with its reason.

// heard is one message as a reader understood it.
type heard struct {
	line    string // the request's method, path and query, or the response's status
	host    string
	body    string
	trailer []string // "Name: value"
	persist bool
}

var (
	blankAfterSize = regexp.MustCompile("(?m)^[0-9A-Fa-f]+[ \t]+(;|\r)")
	lengths        = regexp.MustCompile("(?im)^content-length:(.*)$")
	codings        = regexp.MustCompile("(?im)^transfer-encoding:(.*)$")
)

// saysOnly reports whether all fields of a kind in text say the same, however often.
func saysOnly(fields *regexp.Regexp, text []byte) bool {
	said := map[string]bool{}
	for _, field := range fields.FindAllSubmatch(text, -1) {
		for item := range bytes.SplitSeq(field[1], []byte(",")) {
			if item = bytes.TrimSpace(item); len(item) > 0 {
				said[strings.ToLower(string(bytes.TrimLeft(item, "0")))] = true
			}
		}
	}
	return len(said) == 1
}

// laxer returns the reason why net/http refuses a message of text that we take, where there is one that is known.
func laxer(text []byte, err error) string {
	var escape url.EscapeError
	switch said := err.Error(); {
	case strings.Contains(said, "invalid byte in chunk length") && blankAfterSize.Match(text):
		return "BWS may stand before the extension, and services may pad"
	case strings.Contains(said, "Content-Length") && saysOnly(lengths, text), strings.Contains(said, "transfer encoding") && saysOnly(codings, text):
		return "services may say the same twice"
	case errors.As(err, &escape):
		return "escapes of the path are looked at before it is matched, by package pathnorm"
	case strings.Contains(said, "bad trailer key"):
		return "Trailer only announces: which trailer fields are passed on does not go by it"
	case strings.Contains(said, "chunked encoding contains too much non-data"):
		return "many small chunks with extensions are slow, not ambiguous; each size line is bounded"
	}
	return ""
}

// ourRequests reads requests until one is refused or not whole.
func ourRequests(text []byte) (all []heard) {
	text = bytes.Clone(text)
	for {
		if bytes.HasPrefix(text, []byte("\r\n")) {
			text = text[2:] // as readHead does
		}
		n := headEnd(text, 0)
		if n == 0 {
			return all
		}
		x := &exchange.Exchange{}
		m, refused := parseRequest(text[:n:n], x, 128)
		if refused != nil {
			return all
		}
		body, rest, whole := ourBody(text[n:], x.Request.ContentLength, m.chunked, false, &x.Request.Trailer)
		if !whole {
			return all
		}
		line := x.Request.Method + " " + x.Request.Path
		if x.Request.Method == "CONNECT" {
			line = "CONNECT " + strings.Fields(string(text[:n]))[1]
		}
		if x.Request.HasQuery {
			line += "?" + x.Request.RawQuery
		}
		all = append(all, heard{line: line, host: x.Request.Host, body: body, trailer: list(&x.Request.Trailer), persist: m.persistent()})
		text = rest
	}
}

func list(h *exchange.Header) (all []string) {
	for name, value := range h.All() {
		all = append(all, http.CanonicalHeaderKey(name)+": "+value)
	}
	slices.Sort(all)
	return all
}

// ourBody reads a body off text.
func ourBody(text []byte, length int64, chunked, lenient bool, trailer *exchange.Header) (body string, rest []byte, whole bool) {
	switch {
	case chunked:
		c := chunks{lenient: lenient}
		for {
			part, used, done, err := c.next(text)
			if err != nil || !done && used == 0 {
				return "", nil, false
			}
			body += string(part)
			if text = text[used:]; done {
				return body, text, c.trailers(trailer, 128) == nil
			}
		}
	case length < 0:
		return string(text), nil, true
	case length > int64(len(text)):
		return "", nil, false
	}
	return string(text[:length]), text[length:], true
}

// theirRequests reads the same with net/http.
func theirRequests(text []byte) (all []heard, err error) {
	r := bufio.NewReader(bytes.NewReader(text))
	for {
		if skip, _ := r.Peek(2); string(skip) == "\r\n" {
			_, _ = r.Discard(2)
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			return all, err
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return all, err
		}
		uri := req.RequestURI
		if req.URL.IsAbs() {
			path := req.URL.EscapedPath()
			switch {
			case path == "" && req.Method == "OPTIONS" && req.URL.RawQuery == "" && !req.URL.ForceQuery:
				path = "*"
			case path == "":
				path = "/"
			}
			if uri = path; req.URL.RawQuery != "" || req.URL.ForceQuery {
				uri += "?" + req.URL.RawQuery
			}
		}
		all = append(all, heard{line: req.Method + " " + uri, host: req.Host, body: string(body), trailer: lines(req.Trailer), persist: !req.Close})
	}
}

func lines(h http.Header) (all []string) {
	for name, values := range h {
		for _, v := range values {
			all = append(all, name+": "+v)
		}
	}
	slices.Sort(all)
	return all
}

// compare fails where theirs does not confirm ours.
func compare(text []byte, ours, theirs []heard, err error) error {
	for i, o := range ours {
		if i >= len(theirs) {
			if err != nil && laxer(text, err) != "" {
				return nil
			}
			return fmt.Errorf("message %d is %+v here, and net/http refuses it: %w", i+1, o, err)
		}
		n := theirs[i]
		if o.line != n.line || o.body != n.body || !strings.EqualFold(o.host, n.host) {
			return fmt.Errorf("message %d is %+v here, and %+v to net/http", i+1, o, n)
		}
		for _, t := range o.trailer {
			if !slices.Contains(n.trailer, t) {
				return fmt.Errorf("message %d has the trailer field %q here, and to net/http %q", i+1, t, n.trailer)
			}
		}
		if o.persist && !n.persist {
			return fmt.Errorf("the connection goes on after message %d here, and not to net/http", i+1)
		}
		if !o.persist {
			return nil // what follows counts for nobody
		}
	}
	return nil
}

func checkRequests(text []byte) error {
	theirs, err := theirRequests(text)
	return compare(text, ourRequests(text), theirs, err)
}

// ourResponses reads responses to requests of a method, up to the end of the connection.
func ourResponses(text []byte, method string) (all []heard) {
	text = bytes.Clone(text)
	for {
		n := headEnd(text, 0)
		if n == 0 {
			return all
		}
		x := &exchange.Exchange{}
		m, refused := parseResponse(text[:n:n], x, method, maxResponseFields, false)
		if refused != nil || x.Response.Status == 101 {
			return all // nobody asks for another protocol
		}
		body, rest, whole := ourBody(text[n:], x.Response.ContentLength, m.chunked, true, &x.Response.Trailer)
		if !whole {
			return all
		}
		all = append(all, heard{line: fmt.Sprint(x.Response.Status), body: body, trailer: list(&x.Response.Trailer), persist: m.persistent()})
		text = rest
	}
}

func theirResponses(text []byte, method string) (all []heard, err error) {
	r := bufio.NewReader(bytes.NewReader(text))
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return all, err
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return all, err
		}
		all = append(all, heard{line: fmt.Sprint(res.StatusCode), body: string(body), trailer: lines(res.Trailer), persist: !res.Close})
	}
}

func checkResponses(text []byte, method string) error {
	theirs, err := theirResponses(text, method)
	return compare(text, ourResponses(text, method), theirs, err)
}

func TestCorpusAgainstNetHTTP(t *testing.T) {
	requests, err := hostiletest.Client()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range requests {
		if err := checkRequests(c.Message); err != nil {
			t.Errorf("request %s: %v", c.Name, err)
		}
	}
	responses, err := hostiletest.Upstream()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range responses {
		for _, method := range []string{"GET", "HEAD"} {
			if err := checkResponses(c.Message, method); err != nil {
				t.Errorf("response %s to %s: %v", c.Name, method, err)
			}
		}
	}
}

// The reader of these tests is not that of connections: they must not drift apart. What the corpus accepts, it reads.
func TestCorpusIsRead(t *testing.T) {
	requests, err := hostiletest.Client()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range requests {
		accepted := 0
		for _, v := range c.Verdicts {
			if v != "kept" && v != "closed" && (v[0] < '0' || v[0] > '9') {
				accepted++
			}
		}
		got := ourRequests(c.Message)
		for i, m := range got {
			if !m.persist {
				got = got[:i+1]
				break
			}
		}
		limited := slices.ContainsFunc(c.Verdicts, func(v string) bool { return v == "413" || v == "414" || v == "431" })
		limited = limited || bytes.HasPrefix(c.Message, []byte(connectStart)) // which a route decides on
		if len(got) < accepted || len(got) > accepted && !limited {
			t.Errorf("%s: %d requests, want %d", c.Name, len(got), accepted)
		}
	}
}

func FuzzRequestsAgainstNetHTTP(f *testing.F) {
	requests, err := hostiletest.Client()
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range requests {
		if len(c.Message) < 2000 {
			f.Add(c.Message)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := checkRequests(text); err != nil {
			t.Fatalf("%v\n%q", err, text)
		}
	})
}

func FuzzResponsesAgainstNetHTTP(f *testing.F) {
	responses, err := hostiletest.Upstream()
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range responses {
		if len(c.Message) < 2000 {
			f.Add(c.Message, c.Has("HEAD"))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		if err := checkResponses(text, method); err != nil {
			t.Fatalf("%v\n%q", err, text)
		}
	})
}
