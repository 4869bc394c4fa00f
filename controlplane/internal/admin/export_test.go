package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestExportInParts: the configuration is the same in one message, in parts, and over REST, where no part is large.
func TestExportInParts(t *testing.T) {
	a := newAPI(t)
	conn, err := grpc.NewClient(a.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxRequestBytes)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := adminv1.NewConfigurationServiceClient(conn)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	export := func(revision uint32) (parts int) {
		t.Helper()
		whole, err := client.ExportConfiguration(ctx, &adminv1.ExportConfigurationRequest{Revision: revision})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := client.StreamConfiguration(ctx, &adminv1.StreamConfigurationRequest{Revision: revision})
		if err != nil {
			t.Fatal(err)
		}
		together := &configv1.Configuration{}
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			parts++
			if n := proto.Size(part); n > 2*partBytes {
				t.Errorf("part %d has %d bytes", parts, n)
			}
			if part.GetMeta().GetRevision() != whole.GetMeta().GetRevision() {
				t.Errorf("part %d is of revision %d", parts, part.GetMeta().GetRevision())
			}
			proto.Merge(together, part.GetConfiguration())
		}
		if !proto.Equal(together, whole.GetConfiguration()) {
			t.Error("the parts are not the whole")
		}
		r := a.must("GET", fmt.Sprintf("/api/v1/config/export?revision=%d", revision), "")
		text, err := json.Marshal(r.Data)
		if err != nil {
			t.Fatal(err)
		}
		rest := &configv1.Configuration{}
		if err := protojson.Unmarshal(text, rest); err != nil || !proto.Equal(rest, whole.GetConfiguration()) {
			t.Errorf("over REST it is something else, %v", err)
		}
		if r.Meta.Revision != int(whole.GetMeta().GetRevision()) {
			t.Errorf("over REST it is revision %d", r.Meta.Revision)
		}
		return parts
	}
	if n := export(0); n != 1 {
		t.Errorf("nothing came in %d parts", n)
	}
	a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
	if n := export(0); n != 1 {
		t.Errorf("a service came in %d parts", n)
	}
	large := strings.Repeat("x", 60<<10)
	var routes []string
	for i := range 40 {
		routes = append(routes, fmt.Sprintf(`{"name": "r%d", "path": "/r%d", "direct_response": {"body": "%s"}}`, i, i, large))
	}
	a.must("POST", "/api/v1/config/apply", `{"routes": [`+strings.Join(routes, ",")+`]}`)
	if n := export(0); n != 3 {
		t.Errorf("large routes came in %d parts", n)
	}
	if n := export(1); n != 1 {
		t.Errorf("an earlier revision came in %d parts", n)
	}
	for _, bad := range []string{"revision=x", "revision=-1", "revision=99999999999", "version=1"} {
		if r := a.call("GET", "/api/v1/config/export?"+bad, ""); r.status != 400 {
			t.Errorf("%s: %d %s", bad, r.status, r.raw)
		}
	}
	if r := a.call("GET", "/api/v1/config/export?revision=9", ""); r.status != 404 {
		t.Errorf("a revision that is not there: %d %s", r.status, r.raw)
	}
	if r := a.call("GET", "/api/v1/config/export", "", "Authorization", "Bearer x"); r.status != 401 {
		t.Errorf("without the token: %d", r.status)
	}
	stream, err := client.StreamConfiguration(ctx, &adminv1.StreamConfigurationRequest{Revision: 9})
	if err == nil {
		_, err = stream.Recv()
	}
	if d, ok := errorOf(err); !ok || d.GetCode() != "NOT_FOUND" {
		t.Errorf("a revision that is not there: %v", err)
	}
	stream, err = client.StreamConfiguration(t.Context(), &adminv1.StreamConfigurationRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("without the token: %v", err)
	}
}

// TestTextsOfAllLanguages: author and message are kept as they were said, in a header or in metadata, or refused.
func TestTextsOfAllLanguages(t *testing.T) {
	a := newAPI(t)
	n := 0
	long, longer := strings.Repeat("ä", maxAuthor), strings.Repeat("漢", maxMessage)
	for _, test := range []struct{ name, author, message, wantAuthor, wantMessage string }{
		{"nothing", "", "", "admin", ""},
		{"ASCII", "ann", "it's 50% off", "ann", "it's 50% off"},
		{"UTF-8", "Jürgen Größe", "größer 漢字 😀", "Jürgen Größe", "größer 漢字 😀"},
		{"RFC 8187", "UTF-8''J%C3%BCrgen", "utf-8'de'100%25%20gr%C3%B6%C3%9Fer", "Jürgen", "100% größer"},
		{"as long as may be", long, longer, long, longer},
	} {
		n++
		a.must("POST", "/api/v1/config/services", fmt.Sprintf(`{"name": "s%d"}`, n),
			"Gateway-Author", test.author, "Gateway-Message", test.message)
		r := a.must("GET", fmt.Sprintf("/api/v1/config/revisions/%d", n), "")
		if r.field("author") != test.wantAuthor || r.field("message") != test.wantMessage {
			t.Errorf("%s: %v: %v", test.name, r.field("author"), r.field("message"))
		}
	}
	for name, header := range map[string][]string{
		"an author that is too long":     {"Gateway-Author", strings.Repeat("ä", 201)},
		"a message that is too long":     {"Gateway-Message", strings.Repeat("x", 1001)},
		"no UTF-8":                       {"Gateway-Message", "gr\xf6\xdfer"},
		"escapes that are none":          {"Gateway-Message", "UTF-8''%C3%"},
		"escapes that are no UTF-8":      {"Gateway-Author", "UTF-8''%f6"},
		"an escape of a line's end":      {"Gateway-Author", "UTF-8''ann%0Aroot"},
		"a charset without its language": {"Gateway-Author", "UTF-8'ann"},
	} {
		if r := a.call("POST", "/api/v1/config/services", `{"name": "x"}`, header...); r.status != 400 {
			t.Errorf("%s: %d %s", name, r.status, r.raw)
		}
	}
	conn, err := grpc.NewClient(a.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := adminv1.NewServiceConfigServiceClient(conn)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token,
		"gateway-author-bin", "Jürgen", "gateway-message-bin", "größer")
	if _, err := client.CreateService(ctx, &adminv1.CreateServiceRequest{Service: &configv1.Service{Name: "g"}}); err != nil {
		t.Fatal(err)
	}
	if r := a.must("GET", fmt.Sprintf("/api/v1/config/revisions/%d", n+1), ""); r.field("author") != "Jürgen" || r.field("message") != "größer" {
		t.Errorf("over gRPC: %s", r.raw)
	}
	ctx = metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token, "gateway-author-bin", "\xff")
	_, err = client.CreateService(ctx, &adminv1.CreateServiceRequest{Service: &configv1.Service{Name: "h"}})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("no UTF-8 over gRPC: %v", err)
	}
}
