package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// clause is one MUST or SHOULD of RFC 9110 or RFC 9112 on what is between clients and services, with a request through
// the gateway that shows it.
type clause struct {
	section string // of RFC 9110, or "9112 " and one of RFC 9112
	says    string
	request string // over HTTP/1.1; the head ends with its empty line
	answer  string // the service's, see witness; empty: plainAnswer
	closes  bool   // the service closes the connection behind it

	status int      // of the client's response
	sees   []string // what the service's request has; with "-" before it, what it has not. None: the service is not asked
	gets   []string // the same of what the client gets, as it is sent
	method string   // of the request, where it matters to whoever reads the response
	end    bool     // the client's connection ends behind the response
}

const (
	get  = "GET /a HTTP/1.1\r\nHost: h.test\r\n"
	post = "POST /a HTTP/1.1\r\nHost: h.test\r\n"
	ok   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
	trip = "Transfer-Encoding: chunked\r\n"
)

var clauses = []clause{
	// RFC 9110, Conformance and Identifiers
	{section: "2.5", says: "a later minor version is processed as the highest one that is spoken", request: "GET /a HTTP/1.7\r\nHost: h.test\r\n\r\n", status: 200, sees: []string{"GET /a HTTP/1.1\r\n"}, gets: []string{"HTTP/1.1 200"}},
	{section: "2.5", says: "the version that is sent is the sender's own", request: "GET /a HTTP/1.0\r\nHost: h.test\r\n\r\n", status: 200, sees: []string{"GET /a HTTP/1.1\r\n"}, gets: []string{"HTTP/1.1 200"}, end: true},
	{section: "4.2.4", says: "userinfo in a reference of an untrusted source is an error", request: "GET http://u:p@h.test/a HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 400, end: true},
	// Fields
	{section: "5.1", says: "unrecognised fields are forwarded", request: get + "X-Any: thing\r\n\r\n", answer: ok + "X-Other: thing\r\n\r\nok", status: 200, sees: []string{"X-Any: thing\r\n"}, gets: []string{"X-Other: thing\r\n"}},
	{section: "5.3", says: "the order of field lines of a name is kept", request: get + "X-Any: 1\r\nY: 2\r\nX-Any: 3\r\n\r\n", answer: ok + "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nok", status: 200, sees: []string{"X-Any: 1\r\nY: 2\r\nX-Any: 3\r\n"}, gets: []string{"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"}},
	{section: "5.4", says: "fields that are larger than wanted are answered with a 4xx", request: get + "X: " + strings.Repeat("a", 70_000) + "\r\n\r\n", status: 431, end: true},
	{section: "5.5", says: "CR, LF and NUL in values are refused or replaced", request: get + "X: a\x00b\r\n\r\n", status: 400, end: true},
	{section: "5.5", says: "the same in responses", request: get + "\r\n", answer: ok + "X: a\x00b\r\n\r\nok", status: 502, sees: []string{"GET /a"}},
	{section: "5.5", says: "obs-text is opaque data", request: get + "X: \xfc\r\n\r\n", status: 200, sees: []string{"X: \xfc\r\n"}},
	{section: "5.5", says: "blanks around a value are no part of it", request: get + "X: \t v \t\r\n\r\n", status: 200, sees: []string{"X: v\r\n"}},
	// Message abstraction
	{section: "6.4.2", says: "a Content-Length that is no number is an error", request: post + "Content-Length: 1x\r\n\r\n", status: 400, end: true},
	{section: "6.5", says: "trailers are forwarded, or dropped", request: post + trip + "\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\n" + trip + "\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n", status: 200, sees: []string{"0\r\nX-Sum: 1\r\n\r\n"}, gets: []string{"0\r\nX-Sum: 2\r\n\r\n"}},
	{section: "6.5.1", says: "fields that frame, route or authorise are not taken from trailers", request: post + trip + "\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\nHost: evil\r\nTransfer-Encoding: x\r\nX-Sum: 1\r\n\r\n", status: 200, sees: []string{"X-Sum: 1\r\n", "-Content-Length: 9", "-evil", "-Transfer-Encoding: x"}},
	{section: "6.6.1", says: "a recipient with a clock adds Date to a response that has none", request: get + "\r\n", status: 200, sees: []string{"GET /a"}, gets: []string{"\r\nDate: "}},
	{section: "6.6.1", says: "a Date that is there is forwarded", request: get + "\r\n", answer: ok + "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nok", status: 200, sees: []string{"GET /a"}, gets: []string{"\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"}},
	// Routing
	{section: "7.2", says: "Host is forwarded, once", request: get + "\r\n", status: 200, sees: []string{"\r\nHost: h.test\r\n"}},
	{section: "7.4", says: "a host that there is nothing for is not answered by another's", request: "GET /a HTTP/1.1\r\nHost: other.test\r\n\r\n", status: 404},
	{section: "7.6", says: "an intermediary does not loop (by a limit of visits)", request: get + "Via: 1.1 gateway, 1.1 gateway, 1.1 gateway\r\nVia: 1.1 gateway, 1.1 gateway\r\n\r\n", status: 508},
	{section: "7.6.1", says: "Connection, and what it names, is removed", request: get + "Connection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n", answer: ok + "Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\nok", status: 200, sees: []string{"X-End: 2", "-X-Hop", "-close"}, gets: []string{"X-End: 2", "-X-Hop"}, end: true},
	{section: "7.6.1", says: "Proxy-Connection, Keep-Alive, TE, Transfer-Encoding and Upgrade are removed although Connection does not name them", request: get + "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\nUpgrade: x\r\n\r\n", answer: ok + "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nUpgrade: x\r\n\r\nok", status: 200, sees: []string{"GET /a", "-Proxy-Connection", "-Keep-Alive", "-TE:", "-Upgrade"}, gets: []string{"-Proxy-Connection", "-Keep-Alive", "-Upgrade"}},
	{section: "7.6.1", says: "Connection never takes away what is for all recipients, or frames", request: post + "Connection: Content-Length, Host\r\nContent-Length: 2\r\n\r\nok", status: 200, sees: []string{"Content-Length: 2\r\n", "Host: h.test\r\n", "\r\n\r\nok"}},
	{section: "7.6.2", says: "Max-Forwards of OPTIONS is checked and counted down", request: "OPTIONS /a HTTP/1.1\r\nHost: h.test\r\nMax-Forwards: 3\r\n\r\n", status: 200, sees: []string{"Max-Forwards: 2\r\n", "-Max-Forwards: 3"}},
	{section: "7.6.2", says: "OPTIONS with Max-Forwards 0 is answered as by the final recipient", request: "OPTIONS /a HTTP/1.1\r\nHost: h.test\r\nMax-Forwards: 0\r\n\r\n", status: 200, gets: []string{"\r\nAllow: ", "\r\nContent-Length: 0\r\n"}},
	{section: "7.6.2", says: "TRACE with Max-Forwards 0 is not forwarded", request: "TRACE /a HTTP/1.1\r\nHost: h.test\r\nMax-Forwards: 0\r\n\r\n", status: 501, end: true},
	{section: "7.6.2", says: "TRACE is not forwarded at all: it would tell what only services are told", request: "TRACE /a HTTP/1.1\r\nHost: h.test\r\nMax-Forwards: 3\r\n\r\n", status: 501, end: true},
	{section: "7.6.2", says: "Max-Forwards of other methods may be ignored", request: get + "Max-Forwards: 0\r\n\r\n", status: 200, sees: []string{"Max-Forwards: 0\r\n"}},
	{section: "7.6.3", says: "Via is sent, with the version that the request came in", request: get + "\r\n", status: 200, sees: []string{"\r\nVia: 1.1 gateway\r\n"}},
	{section: "7.6.3", says: "Via is appended to, not changed", request: get + "Via: 1.0 fred, 1.1 p.example (x)\r\n\r\n", status: 200, sees: []string{"\r\nVia: 1.0 fred, 1.1 p.example (x), 1.1 gateway\r\n"}},
	{section: "7.6.3", says: "of a request of HTTP/1.0", request: "GET /a HTTP/1.0\r\nHost: h.test\r\n\r\n", status: 200, sees: []string{"\r\nVia: 1.0 gateway\r\n"}, end: true},
	{section: "7.7", says: "the path is not changed, but for what is equivalent; the query never", request: "GET /a%2db?x=%2d+{} HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 200, sees: []string{"GET /a-b?x=%2d+{} HTTP/1.1\r\n"}},
	{section: "7.7", says: "no-transform is kept to: content is passed on as it is", request: get + "Cache-Control: no-transform\r\n\r\n", answer: ok + "Cache-Control: no-transform\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b", status: 200, sees: []string{"Cache-Control: no-transform\r\n"}, gets: []string{"Content-Encoding: gzip\r\n", "\r\n\r\n\x1f\x8b"}},
	{section: "7.8", says: "Upgrade to what is not spoken is ignored, and not forwarded", request: get + "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", status: 200, sees: []string{"GET /a", "-Upgrade", "-h2c"}},
	{section: "7.8", says: "Upgrade of HTTP/1.0 is ignored", request: "GET /a HTTP/1.0\r\nHost: h.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", status: 200, sees: []string{"GET /a", "-Upgrade"}, end: true},
	{section: "7.8", says: "101 that was not asked for is not forwarded", request: get + "\r\n", answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", status: 502, sees: []string{"GET /a"}},
	// Representation data
	{section: "8.6", says: "Content-Length is not forwarded that is known to be wrong: repeated ones are an error", request: post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", status: 400, end: true},
	{section: "8.6", says: "a list of the same length is one length, or an error: from services the first", request: get + "\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", status: 200, sees: []string{"GET /a"}, gets: []string{"\r\nContent-Length: 2\r\n"}},
	{section: "8.6", says: "and from clients the second", request: post + "Content-Length: 2, 2\r\n\r\nok", status: 400, end: true},
	{section: "8.6", says: "no Content-Length in 204", request: get + "\r\n", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", status: 204, sees: []string{"GET /a"}, gets: []string{"-Content-Length"}},
	{section: "8.6", says: "nor in 1xx", request: get + "\r\n", answer: "HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nLink: </x>\r\n\r\n" + plainAnswer, status: 200, sees: []string{"GET /a"}, gets: []string{"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"}},
	{section: "8.6", says: "a response to HEAD says the length that GET's has", request: "HEAD /a HTTP/1.1\r\nHost: h.test\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", status: 200, method: "HEAD", sees: []string{"HEAD /a"}, gets: []string{"Content-Length: 999\r\n"}},
	{section: "8.6", says: "a request of a method that anticipates content says that there is none", request: post + "\r\n", status: 200, sees: []string{"\r\nContent-Length: 0\r\n"}},
	{section: "8.6", says: "and other requests don't", request: get + "\r\n", status: 200, sees: []string{"GET /a", "-Content-Length"}},
	// Methods
	{section: "9.1", says: "methods are forwarded as they are, their case and unknown ones too", request: "get-It /a HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 200, sees: []string{"get-It /a "}},
	{section: "9.2.2", says: "requests that are not idempotent are not sent again", request: post + "Content-Length: 0\r\n\r\n", answer: "|", closes: true, status: 502, sees: []string{"POST /a"}},
	{
		section: "9.3.2", says: "there is no content in a response to HEAD", request: "HEAD /a HTTP/1.1\r\nHost: h.test\r\n\r\n",
		answer: "HTTP/1.1 200 OK\r\n" + trip + "\r\n", method: "HEAD", status: 200, sees: []string{"HEAD /a"},
		gets: []string{"-\r\n\r\n0\r\n\r\n"},
	},
	{section: "9.3.6", says: "CONNECT is for proxies that are meant to be asked", request: "CONNECT h.test:80 HTTP/1.1\r\nHost: h.test:80\r\n\r\n", status: 501, end: true},
	{section: "9.3.6", says: "CONNECT without a port is an error", request: "CONNECT h.test HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 400, end: true},
	{section: "9.3.7", says: "OPTIONS * is answered, with Content-Length 0 where there is nothing to say", request: "OPTIONS * HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 200, gets: []string{"\r\nContent-Length: 0\r\n", "\r\nAllow: "}},
	// Expect, TE and others
	{section: "10.1.1", says: "Expect: 100-continue is forwarded, and the service's 100 comes back", request: post + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok", answer: "HTTP/1.1 100 Continue\r\n\r\n|" + plainAnswer, status: 200, sees: []string{"Expect: 100-continue\r\n"}, gets: []string{"HTTP/1.1 200"}},
	{section: "10.1.1", says: "100-continue of HTTP/1.0 is ignored", request: "POST /a HTTP/1.0\r\nHost: h.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok", status: 200, sees: []string{"POST /a", "-Expect"}, end: true},
	{section: "10.1.1", says: "another expectation is answered with 417", request: post + "Expect: other\r\nContent-Length: 2\r\n\r\nok", status: 417, end: true},
	{section: "10.1.4", says: "TE is for one connection: trailers is said again with Connection", request: get + "TE: trailers\r\nConnection: TE\r\n\r\n", status: 200, sees: []string{"TE: trailers\r\nConnection: TE\r\n"}},
	{section: "10.1.4", says: "and codings that are not understood are not asked for", request: get + "TE: gzip;q=0.5\r\nConnection: TE\r\n\r\n", status: 200, sees: []string{"GET /a", "-TE", "-gzip"}},
	{section: "10.2.4", says: "Server is not changed", request: get + "\r\n", answer: ok + "Server: x/1\r\n\r\nok", status: 200, sees: []string{"GET /a"}, gets: []string{"Server: x/1\r\n"}},
	{section: "11.6.2", says: "Authorization is forwarded as it is", request: get + "Authorization: Basic eA==\r\n\r\n", status: 200, sees: []string{"Authorization: Basic eA==\r\n"}},
	{section: "11.6.1", says: "WWW-Authenticate is forwarded as it is", request: get + "\r\n", answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nContent-Length: 0\r\n\r\n", status: 401, sees: []string{"GET /a"}, gets: []string{"WWW-Authenticate: Basic realm=\"a\"\r\n"}},
	{section: "11.7.2", says: "Proxy-Authorization is for the proxy that asked, which is none here", request: get + "Proxy-Authorization: Basic eA==\r\n\r\n", status: 200, sees: []string{"GET /a", "-Proxy-Authorization"}},
	{section: "13.1", says: "conditions are the service's to look at", request: get + "If-None-Match: \"a\"\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", status: 304, sees: []string{"If-None-Match: \"a\"\r\n"}, gets: []string{"ETag: \"a\"\r\n"}},
	{section: "14.2", says: "ranges too", request: get + "Range: bytes=0-1\r\n\r\n", answer: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok", status: 206, sees: []string{"Range: bytes=0-1\r\n"}, gets: []string{"Content-Range: bytes 0-1/9\r\n"}},
	// Status codes
	{section: "15", says: "an unknown status is forwarded", request: get + "\r\n", answer: "HTTP/1.1 499 Odd\r\nContent-Length: 0\r\n\r\n", status: 499, sees: []string{"GET /a"}, gets: []string{"HTTP/1.1 499 Odd\r\n"}},
	{section: "15", says: "also one outside of the classes, of a service that is not strict", request: get + "\r\n", answer: "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", status: 999, sees: []string{"GET /a"}, gets: []string{"HTTP/1.1 999 Odd\r\n"}},
	{section: "15.2", says: "1xx are forwarded", request: get + "\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + plainAnswer, status: 200, sees: []string{"GET /a"}, gets: []string{"HTTP/1.1 103 Early Hints\r\n"}},
	{section: "15.2", says: "but not to HTTP/1.0", request: "GET /a HTTP/1.0\r\nHost: h.test\r\n\r\n",
		answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + plainAnswer,
		status: 200, sees: []string{"GET /a"}, gets: []string{"- 103"}, end: true}, // not 103 alone: a request's id may have it
	{section: "15.4.5", says: "304 has no content", request: get + "\r\n", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status: 304, sees: []string{"GET /a"}, gets: []string{"Content-Length: 9\r\n"}},
	{section: "15.5.15", says: "a target that is too long is answered with 414", request: "GET /" + strings.Repeat("a", 9000) + " HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 414, end: true},
	{section: "15.6.2", says: "a method that is not recognised for its length is answered with 501", request: strings.Repeat("A", 33) + " /a HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 501, end: true},
	{section: "15.6.3", says: "an invalid response of the service is answered with 502", request: get + "\r\n", answer: "nonsense\r\n\r\n", status: 502, sees: []string{"GET /a"}},
	{section: "15.6.6", says: "another major version is answered with 505", request: "GET /a HTTP/3.0\r\nHost: h.test\r\n\r\n", status: 505, end: true},
	// RFC 9112, Message
	{section: "9112 2.2", says: "one empty line before a request is ignored", request: "\r\n" + get + "\r\n", status: 200, sees: []string{"GET /a"}},
	{section: "9112 2.2", says: "a bare CR is an error", request: get + "X: a\rb\r\n\r\n", status: 400, end: true},
	{section: "9112 2.2", says: "a bare LF may be a line end: from services it is, where all lines have it", request: get + "\r\n", answer: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", status: 200, sees: []string{"GET /a"}, gets: []string{"HTTP/1.1 200 OK\r\n"}},
	{section: "9112 2.2", says: "from clients it is not", request: "GET /a HTTP/1.1\nHost: h.test\n\n", status: 400, end: true},
	{section: "9112 2.2", says: "a blank between the start line and the first field is an error", request: "GET /a HTTP/1.1\r\n X: y\r\nHost: h.test\r\n\r\n", status: 400, end: true},
	{section: "9112 2.3", says: "a version that is none by the grammar is an error", request: "GET /a HTTP/1\r\nHost: h.test\r\n\r\n", status: 400, end: true},
	{section: "9112 3", says: "an invalid request line is answered with 400, not mended", request: "GET  /a HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 400, end: true},
	{section: "9112 3.2", says: "no Host is an error", request: "GET /a HTTP/1.1\r\n\r\n", status: 400, end: true},
	{section: "9112 3.2", says: "two are", request: get + "Host: h.test\r\n\r\n", status: 400, end: true},
	{section: "9112 3.2", says: "and so is one that is none", request: "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", status: 400, end: true},
	{section: "9112 3.2.2", says: "the absolute form is accepted, and its host counts", request: "GET http://h.test/a HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 200, sees: []string{"GET /a HTTP/1.1\r\nHost: h.test\r\n"}},
	{section: "9112 3.2.2", says: "where Host says another one the request is refused, since others go by that", request: "GET http://h.test/a HTTP/1.1\r\nHost: other.test\r\n\r\n", status: 400, end: true},
	{section: "9112 3.2.4", says: "OPTIONS with an absolute form without path is for the server as a whole", request: "OPTIONS http://h.test HTTP/1.1\r\nHost: h.test\r\n\r\n", status: 200, gets: []string{"\r\nAllow: "}},
	{section: "9112 4", says: "a response without a reason is accepted", request: get + "\r\n", answer: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", status: 200, sees: []string{"GET /a"}},
	{section: "9112 5.1", says: "a blank before the colon is an error in requests", request: get + "X : y\r\n\r\n", status: 400, end: true},
	{section: "9112 5.1", says: "and is removed from responses", request: get + "\r\n", answer: ok + "X : y\r\n\r\nok", status: 200, sees: []string{"GET /a"}, gets: []string{"\r\nX: y\r\n"}},
	{section: "9112 5.2", says: "a folded line is refused in requests", request: get + "X: y\r\n z\r\n\r\n", status: 400, end: true},
	{section: "9112 5.2", says: "and makes a 502 of a response", request: get + "\r\n", answer: ok + "X: y\r\n z\r\n\r\nok", status: 502, sees: []string{"GET /a"}},
	// Message body
	{section: "9112 6.1", says: "a coding that is not understood is answered with 501", request: post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", status: 501, end: true},
	{section: "9112 6.1", says: "a message of HTTP/1.0 with Transfer-Encoding is faulty", request: "POST /a HTTP/1.0\r\nHost: h.test\r\n" + trip + "\r\n0\r\n\r\n", status: 400, end: true},
	{section: "9112 6.1", says: "no Transfer-Encoding to clients of HTTP/1.0", request: "GET /a HTTP/1.0\r\nHost: h.test\r\n\r\n", answer: "HTTP/1.1 200 OK\r\n" + trip + "\r\n2\r\nok\r\n0\r\n\r\n", status: 200, sees: []string{"GET /a"}, gets: []string{"-Transfer-Encoding", "\r\n\r\nok"}, end: true},
	{section: "9112 6.1", says: "nor in 204", request: get + "\r\n", answer: "HTTP/1.1 204 No Content\r\n" + trip + "\r\n", status: 204, sees: []string{"GET /a"}, gets: []string{"-Transfer-Encoding"}},
	{section: "9112 6.3", says: "chunked that is not the last coding is answered with 400", request: post + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", status: 400, end: true},
	{section: "9112 6.3", says: "both lengths are an error in requests", request: post + "Content-Length: 5\r\n" + trip + "\r\n0\r\n\r\n", status: 400, end: true},
	{section: "9112 6.3", says: "in responses the length is removed", request: get + "\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + trip + "\r\n2\r\nok\r\n0\r\n\r\n", status: 200, sees: []string{"GET /a"}, gets: []string{"-Content-Length: 5"}},
	{section: "9112 6.3", says: "a response with an invalid length is a 502", request: get + "\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok", status: 502, sees: []string{"GET /a"}},
	{section: "9112 6.3", says: "a response without a length goes on to the end of the connection", request: get + "\r\n", answer: "HTTP/1.1 200 OK\r\n\r\nok", closes: true, status: 200, sees: []string{"GET /a"}, gets: []string{"ok"}},
	// Chunks
	{section: "9112 7.1", says: "chunked is decoded, whatever the sizes look like", request: post + trip + "\r\n00002\r\nok\r\n0\r\n\r\n", status: 200, sees: []string{"\r\n\r\n2\r\nok\r\n0\r\n\r\n"}},
	{section: "9112 7.1", says: "sizes that overflow are no sizes", request: post + trip + "\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n", status: 400, end: true},
	{section: "9112 7.1.1", says: "extensions that are not understood are ignored", request: post + trip + "\r\n2 ;a=\"b;c\"\r\nok\r\n0\r\n\r\n", status: 200, sees: []string{"\r\n2\r\nok\r\n", "-b;c"}},
	{section: "9112 7.1.1", says: "their length is bounded", request: post + trip + "\r\n2;" + strings.Repeat("a", 300) + "\r\nok\r\n0\r\n\r\n", status: 400, end: true},
	{section: "9112 7.1.2", says: "trailers are kept apart from the fields", request: post + trip + "\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", status: 200, sees: []string{"0\r\nX-Sum: 1\r\n\r\n"}},
	{section: "9112 7.4", says: "chunked is not named in TE", request: get + "TE: chunked\r\nConnection: TE\r\n\r\n", status: 200, sees: []string{"GET /a", "-TE"}},
	// Connections
	{section: "9112 8", says: "a request that is not whole is answered with an error", request: post + "Content-Length: 9\r\n\r\nok", status: 408, end: true},
	{section: "9112 8", says: "a response that is not whole is not made one", request: get + "\r\n", answer: ok + "\r\n", closes: true, status: 502, sees: []string{"GET /a"}},
	{section: "9112 9.3", says: "connections persist by default", request: get + "\r\n", status: 200, sees: []string{"GET /a"}, gets: []string{"-Connection: close"}},
	{section: "9112 9.3", says: "those of HTTP/1.0 do not", request: "GET /a HTTP/1.0\r\nHost: h.test\r\n\r\n", status: 200, sees: []string{"GET /a"}, gets: []string{"Connection: close\r\n"}, end: true},
	{section: "9112 9.6", says: "close ends the connection, and is said back", request: get + "Connection: close\r\n\r\n", status: 200, sees: []string{"GET /a", "-close"}, gets: []string{"Connection: close\r\n"}, end: true},
	{section: "9112 9.6", says: "a service's close ends its connection, not the client's", request: get + "\r\n", answer: ok + "Connection: close\r\n\r\nok", closes: true, status: 200, sees: []string{"GET /a"}, gets: []string{"-Connection: close"}},
}

// TestClauses goes through what RFC 9110 and RFC 9112 ask of whoever is between clients and services.
func TestClauses(t *testing.T) {
	limits := codec.DefaultLimits()
	w := newWitness(t)
	g := startWith(t, limits, strings.Replace(to(w.address, ""), "path: /*,", "path: /*, hosts: [h.test],", 1))
	limits.BodyTimeout = 300 * time.Millisecond // for what is to be given up
	hasty := startWith(t, limits, strings.Replace(to(w.address, ""), "path: /*,", "path: /*, hosts: [h.test],", 1))
	for _, c := range clauses {
		t.Run(c.section+" "+c.says, func(t *testing.T) {
			w.take()
			answer := c.answer
			if answer == "" {
				answer = plainAnswer
			}
			w.answers(answer, c.closes)
			node := g
			if c.status == 408 {
				node = hasty
			}
			text, res, ended := node.exchange(t, c.request, c.method)
			if res == nil || res.StatusCode != c.status || ended != c.end {
				t.Errorf("the client got %.300q, and the connection ended: %v; want %d, %v", text, ended, c.status, c.end)
			}
			saw := w.take()
			if c.status != 408 && (saw == "") != (len(c.sees) == 0) {
				t.Errorf("the service saw %q", saw)
			}
			holds(t, "the service", saw, c.sees)
			holds(t, "the client", text, c.gets)
		})
	}
}

// holds checks that text has what is wanted, and has not what is not.
func holds(t *testing.T, who, text string, wants []string) {
	t.Helper()
	for _, want := range wants {
		if not, isNot := strings.CutPrefix(want, "-"); strings.Contains(text, not) == isNot {
			t.Errorf("%s got %q; want %q", who, text, want)
		}
	}
}

// exchange sends a request and returns the text of what comes back, the final response, and whether the connection ends
// behind it. Where it does not, it takes another request.
func (g *gateway) exchange(t *testing.T, request, method string) (text string, res *http.Response, ended bool) {
	t.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(waittest.Limit))
	_, _ = io.WriteString(c, request) // it may be refused before its end
	var heard bytes.Buffer
	r := bufio.NewReader(io.TeeReader(c, &heard))
	for {
		if res, err = http.ReadResponse(r, &http.Request{Method: method}); err != nil {
			return heard.String(), nil, true
		}
		if res.StatusCode >= 200 {
			break
		}
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("half a response: %v", err)
	}
	text = heard.String()
	if _, err := io.WriteString(c, "OPTIONS * HTTP/1.1\r\nHost: next.test\r\n\r\n"); err == nil {
		_, err = http.ReadResponse(r, nil)
		ended = err != nil
	}
	if ended != res.Close {
		t.Errorf("the connection ends: %v; it was said: %v", ended, res.Close)
	}
	return text, res, ended
}
