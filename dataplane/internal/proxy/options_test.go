package proxy

import (
	"fmt"
	"strings"
	"testing"
)

type optionsTest struct {
	target, fields string
	status         int
	allow          string
	sent           string // the Max-Forwards that the service sees; "none": it is asked without; empty: it is not asked
}

// wrong tells what is wrong with what came of a test.
func (test *optionsTest) wrong(status int, allow, saw string) string {
	sent := ""
	if saw != "" {
		sent = "none"
		for line := range strings.SplitSeq(saw, "\r\n") {
			if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "Max-Forwards") {
				sent = value
			}
		}
	}
	if status == test.status && allow == test.allow && sent == test.sent {
		return ""
	}
	return fmt.Sprintf("%d, Allow %q, Max-Forwards %q; want %d, %q, %q", status, allow, sent, test.status, test.allow, test.sent)
}

// OPTIONS about the node itself is answered by it, and one about a resource goes as far as Max-Forwards lets it.
func TestOptions(t *testing.T) {
	w := newWitness(t)
	g := start(t, to(w.address, "")+"---\nroutes: [{name: few, path: /few, methods: [OPTIONS, GET], service_id: s}, {name: here, path: /here, direct_response: {body: hi}}]\n")
	const any = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	for _, test := range []optionsTest{
		{"*", "", 200, any, ""},
		{"*", "Max-Forwards: 5", 200, any, ""},
		{"/a", "", 200, "", "none"},
		{"/a", "Max-Forwards: 1", 200, "", "0"},
		{"/a", "max-forwards: 10", 200, "", "9"},
		{"/a", "Max-Forwards: 99999999999999999999999", 200, "", "255"},
		{"/a", "Max-Forwards: 300", 200, "", "255"},
		{"/a", "Max-Forwards: 0", 200, any, ""},
		{"/few", "Max-Forwards: 000", 200, "OPTIONS, GET", ""},
		{"/here", "Max-Forwards: 0", 200, "", ""},
		{"/a", "Max-Forwards: -1", 400, "", ""},
		{"/a", "Max-Forwards: x", 400, "", ""},
		{"/a", "Max-Forwards:", 400, "", ""},
		{"/a", "Max-Forwards: 1\r\nMax-Forwards: 1", 400, "", ""},
	} {
		text := "OPTIONS " + test.target + " HTTP/1.1\r\nHost: a\r\n" + test.fields + "\r\n\r\n"
		if test.fields == "" {
			text = strings.Replace(text, "\r\n\r\n\r\n", "\r\n\r\n", 1)
		}
		res := g.raw(text, "OPTIONS")[0]
		saw := w.take()
		if problem := test.wrong(res.StatusCode, res.Header.Get("Allow"), saw); problem != "" {
			t.Errorf("HTTP/1.1, %q: %s", text, problem)
		}
		fields := []string{":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", test.target}
		for line := range strings.SplitSeq(test.fields, "\r\n") {
			if name, value, ok := strings.Cut(line, ":"); ok {
				fields = append(fields, strings.ToLower(name), strings.TrimSpace(value))
			}
		}
		heard := g.ask(fields...)
		var status int
		_, _ = fmt.Sscan(heard.status, &status)
		if problem := test.wrong(status, heard.field("allow"), w.take()); problem != "" {
			t.Errorf("HTTP/2, %q: %s", text, problem)
		}
	}
	// The field is for OPTIONS and TRACE.
	g.raw("GET /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", "GET")
	if saw := w.take(); !strings.Contains(saw, "Max-Forwards: 0\r\n") {
		t.Errorf("the service saw %q", saw)
	}
	if res := g.raw("TRACE /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", "TRACE")[0]; res.StatusCode != 501 || w.take() != "" {
		t.Errorf("TRACE: %d", res.StatusCode)
	}
	if res := start(t, "").raw("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS")[0]; res.StatusCode != 503 {
		t.Errorf("without a configuration: %d", res.StatusCode)
	}
}
