package admin

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// creation is the edit of an update of a resource that is not there, where that creates it.
func creation(ctx context.Context, k config.Kind, name string, m config.Message) (config.Edit, error) {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("if-match")) > 0 {
		return config.Edit{}, failure(fault.PreconditionFailed, fmt.Sprintf("there is no %s %q, and If-Match asks for one", k, name))
	}
	if uuid.Validate(name) == nil { // a name may look like one, but whoever says an id means a resource that has been there
		return config.Edit{}, &config.NotFound{Kind: k, Ref: name}
	}
	next := proto.CloneOf(m)
	switch next.GetName() {
	case name:
	case "":
		setString(next, "name", name)
	default:
		return config.Edit{}, invalid("name", next.GetName(), fmt.Sprintf("has to be %q, as in the path, or left out: there is no such %s yet", name, k))
	}
	return config.Edit{Kind: k, Put: next, MustNotExist: true}, nil
}

// tags are the versions of an If-None-Match (RFC 9110 section 13.1.2).
type tags struct {
	any      bool
	versions []uint32
}

// holds reports whether a version is one of them.
func (t tags) holds(version uint32) bool {
	if t.any {
		return true
	}
	for _, v := range t.versions {
		if v == version {
			return true
		}
	}
	return false
}

// unwanted reads If-None-Match. Nothing is unwanted where there is none.
func unwanted(ctx context.Context) (t tags, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, field := range md.Get("if-none-match") {
		for tag := range strings.SplitSeq(field, ",") {
			tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
			if tag == "*" {
				t.any = true
				continue
			}
			n, err := strconv.ParseUint(tag, 10, 32)
			if err != nil {
				return t, invalid("If-None-Match", field, `has to be * or versions of a resource such as "7"`)
			}
			t.versions = append(t.versions, uint32(n))
		}
	}
	return t, nil
}
