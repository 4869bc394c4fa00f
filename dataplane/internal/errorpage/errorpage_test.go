package errorpage

import (
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/fault"
)

func policyOf(pages ...*configv1.ErrorPage) *configv1.Policy {
	return &configv1.Policy{Name: "p", Errors: pages}
}

func bodiesOf(pairs ...string) []*configv1.ErrorBody {
	var list []*configv1.ErrorBody
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, &configv1.ErrorBody{ContentType: pairs[i], Body: pairs[i+1]})
	}
	return list
}

func failed(code fault.Code, accept ...string) *exchange.Exchange {
	x := &exchange.Exchange{}
	x.ID = "id-1"
	x.Route = "r"
	x.Request.Path = `/<script>"&'`
	for _, a := range accept {
		x.Request.Header.Add("Accept", a)
	}
	x.Fail(code, `it "broke"`)
	return x
}

func TestChoice(t *testing.T) {
	route := policyOf(&configv1.ErrorPage{Codes: []string{"FORBIDDEN"}, Bodies: bodiesOf("text/plain", "no")})
	service := policyOf(&configv1.ErrorPage{Statuses: []string{"403", "5xx"}, Bodies: bodiesOf("text/plain", "service")})
	global := policyOf(
		&configv1.ErrorPage{Codes: []string{"ROUTE_NOT_FOUND"}, Statuses: []string{"502"}, Bodies: bodiesOf("text/html", "<p>html", "application/json", "", "application/xml", "<a/>")},
		&configv1.ErrorPage{Codes: []string{"BAD_REQUEST"}, Bodies: bodiesOf("text/plain", "bad")},
	)
	pages, err := Compile(route, service, nil, global)
	if err != nil {
		t.Fatal(err)
	}
	const own = `{"success":false`
	for _, c := range []struct {
		code   fault.Code
		accept []string
		want   string
	}{
		{fault.Forbidden, nil, "no"},
		{fault.UpstreamUnavailable, nil, "service"},
		{fault.NoHealthyEndpoints, nil, "service"},
		{fault.BadRequest, nil, "bad"},
		{fault.RequestTooLarge, nil, own},
		{fault.RouteNotFound, nil, "<p>html"},
		{fault.RouteNotFound, []string{"*/*"}, "<p>html"},
		{fault.RouteNotFound, []string{"application/json"}, own},
		{fault.RouteNotFound, []string{"text/html;q=0.5, application/json"}, own},
		{fault.RouteNotFound, []string{"text/html;q=0.5", "application/xml;q=0.6,*/*;q=0.1"}, "<a/>"},
		{fault.RouteNotFound, []string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "<p>html"},
		{fault.RouteNotFound, []string{"application/*, text/html;q=0"}, own},
		{fault.RouteNotFound, []string{"image/png"}, "<p>html"},
		{fault.RouteNotFound, []string{"APPLICATION/XML; Q=1"}, "<a/>"},
		{fault.RouteNotFound, []string{"text/*;q=0.3, */*;q=0.30"}, "<p>html"},
		{fault.RouteNotFound, []string{"text/html;q=2, application/json;q=0.001"}, own},
		{fault.RouteNotFound, []string{" , ;, "}, "<p>html"},
	} {
		x := failed(c.code, c.accept...)
		pages.Apply(x)
		res := &x.Response
		if got := string(res.Body); !strings.HasPrefix(got, c.want) || res.ContentLength != int64(len(got)) || res.Code != c.code || res.Status != c.code.HTTP() {
			t.Errorf("%s for %q: %d %s", c.code, c.accept, res.Status, got)
		}
		if varies := res.Header.Get("Vary") == "Accept"; varies != (c.code == fault.RouteNotFound) {
			t.Errorf("%s: Vary: %v", c.code, varies)
		}
	}
	if x := failed(fault.Forbidden); x.Response.Header.Get("Content-Type") != "application/json" {
		t.Error("the gateway's own error has changed")
	}
}

// What the pages can't be for stays as it is.
func TestOthersStay(t *testing.T) {
	pages, _ := Compile(policyOf(&configv1.ErrorPage{Bodies: bodiesOf("text/plain", "no")}))
	rpc := &exchange.Exchange{}
	rpc.RPC = exchange.GRPC
	rpc.Fail(fault.RouteNotFound, "none")
	pages.Apply(rpc)
	if len(rpc.Response.Body) > 0 || rpc.Response.Header.Get("grpc-status") != "12" {
		t.Errorf("%v %s", rpc.Response.Header.Fields(), rpc.Response.Body)
	}
	var direct exchange.Exchange
	direct.Answer(404, "text/plain", []byte("a fixed answer"))
	pages.Apply(&direct)
	if string(direct.Response.Body) != "a fixed answer" {
		t.Errorf("%s", direct.Response.Body)
	}
	var none *Pages
	none.Apply(rpc)
}

func TestTypes(t *testing.T) {
	pages, err := Compile(policyOf(&configv1.ErrorPage{Bodies: bodiesOf("text/html", `<p title="${request.path}">${error.code} ${response.status}: ${error.message}`)}))
	if err != nil {
		t.Fatal(err)
	}
	x := failed(fault.RouteNotFound)
	pages.Apply(x)
	want := `<p title="/&lt;script&gt;&#34;&amp;&#39;">ROUTE_NOT_FOUND 404: it &#34;broke&#34;`
	if got := string(x.Response.Body); got != want || x.Response.Header.Get("Content-Type") != "text/html; charset=utf-8" || x.Response.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v %s", x.Response.Header.Fields(), got)
	}
}

// Whatever a value is, it stays a value.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", `"`, `\`, "<script>", "\x00\x1f\x7f\r\n", "\xff\xfe", "\u2028", "]]>", "&amp;", "\ufffe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		whole := append(appendJSON([]byte(`{"a":"`), s), `"}`...)
		var object map[string]string
		if err := json.Unmarshal(whole, &object); err != nil || len(object) != 1 || object["a"] != strings.ToValidUTF8(s, "\uFFFD") && strings.ToValidUTF8(s, "") == s {
			t.Errorf("%q: %v %q", whole, err, object)
		}
		markup := append(appendMarkup([]byte(`<a b="`), s), `">`...)
		markup = append(appendMarkup(markup, s), "</a>"...)
		var element struct {
			B     string   `xml:"b,attr"`
			Inner string   `xml:",innerxml"`
			Any   []string `xml:",any"`
		}
		if err := xml.Unmarshal(markup, &element); err != nil || strings.ContainsAny(element.Inner, "<>\"'") {
			t.Errorf("%q: %v %+v", markup, err, element)
		}
		for _, c := range appendPlain(nil, s) {
			if c < 0x20 || c == 0x7f {
				t.Errorf("%q has %x", s, c)
			}
		}
	})
}

func FuzzQuality(f *testing.F) {
	for _, s := range []string{"text/html", "*/*;q=0.1", "a/b;q=1.0001, text/*;q=.5", ";;;,,,", "text/html;q=0.999;q=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var h exchange.Header
		h.Add("Accept", s)
		if q := quality(&h, "text/html"); q < 0 || q > exchange.MaxWeight {
			t.Errorf("%q: %d", s, q)
		}
	})
}
