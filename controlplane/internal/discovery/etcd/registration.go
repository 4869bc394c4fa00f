package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// The bounds of a registration; they are those of the resources that it becomes part of.
const (
	maxRegistrationBytes = 64 << 10
	maxNameBytes         = 256
	maxMeta              = 64
	maxMetaBytes         = 8 << 10 // keys and values together: they go to every node
	maxWeight            = 1000
)

// registration is one instance of a service as it announces itself. Fields that are not known here are its own affair.
type registration struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Tags    []string          `json:"tags"`
	Address string            `json:"address"`
	Port    int64             `json:"port"`
	Meta    map[string]string `json:"meta"`
	Weight  *int64            `json:"weight"`
}

// found is a registration that was understood.
type found struct {
	name     string
	tags     []string
	endpoint *configv1.Endpoint
	revision int64 // when it was written
}

// parse reads a registration. The error says which field is wrong, with its value and what would be right.
func parse(value []byte) (*found, error) {
	if len(value) > maxRegistrationBytes {
		return nil, fmt.Errorf("has %d bytes; %d are allowed", len(value), maxRegistrationBytes)
	}
	var r registration
	if err := json.Unmarshal(value, &r); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			return nil, fmt.Errorf("%s: has to be %s, not %s", wrong.Field, typeText(wrong.Field), wrong.Value)
		}
		return nil, fmt.Errorf("is no JSON object with name, address and port: %w", err)
	}
	switch {
	case r.Name == "" || len(r.Name) > maxNameBytes || strings.ContainsAny(r.Name, "/\x00"):
		return nil, fmt.Errorf(`name %q: has to be 1 to %d bytes without "/"`, shorten(r.Name), maxNameBytes)
	case !config.ValidHost(r.Address):
		return nil, fmt.Errorf("address %q: has to be an IP address or a DNS name, without scheme and port", shorten(r.Address))
	case r.Port < 1 || r.Port > 65535:
		return nil, fmt.Errorf("port %d: has to be 1 to 65535", r.Port)
	case r.Weight != nil && (*r.Weight < 0 || *r.Weight > maxWeight):
		return nil, fmt.Errorf("weight %d: has to be 0 to %d", *r.Weight, maxWeight)
	case len(r.Meta) > maxMeta:
		return nil, fmt.Errorf("meta: has %d entries; %d are allowed", len(r.Meta), maxMeta)
	}
	size := 0
	for k, v := range r.Meta {
		size += len(k) + len(v)
	}
	if size > maxMetaBytes {
		return nil, fmt.Errorf("meta: has %d bytes of keys and values; %d are allowed", size, maxMetaBytes)
	}
	weight := uint32(1)
	if r.Weight != nil {
		weight = uint32(*r.Weight)
	}
	return &found{name: r.Name, tags: r.Tags, endpoint: &configv1.Endpoint{Host: canonical(r.Address), Port: uint32(r.Port), Weight: proto.Uint32(weight), Labels: r.Meta}}, nil
}

// canonical makes equal addresses equal texts.
func canonical(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.String()
	}
	return strings.ToLower(host)
}

func typeText(field string) string {
	switch name, _, _ := strings.Cut(field, "."); name {
	case "port", "weight":
		return "a whole number"
	case "tags":
		return "a list of strings"
	case "meta":
		return "an object of strings"
	default:
		return "a string"
	}
}

func shorten(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}
