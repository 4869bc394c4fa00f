// Package identity is who the two planes are to each other: names in certificates, the files that these come from, join
// tokens, and how each side verifies the other. It opens no connections and issues no certificates.
package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"gateway.internal/shared/nodeid"
)

// Authority in URIs of certificates that control planes issue: spiffe://gateway/node/ID, with the group before it where
// the node has one (spiffe://gateway/group/GROUP/node/ID), and spiffe://gateway/control-plane.
const trustDomain = "gateway"

// ControlPlaneURI is the name of control planes in certificates of the built-in authority.
func ControlPlaneURI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/control-plane"}
}

// MaxGroupBytes is the longest group.
const MaxGroupBytes = 128

// Name says which node a certificate is of.
type Name struct {
	// ID is the node's id.
	ID string
	// Group is the node's group; it may be empty.
	Group string
	// Grouped tells that the certificate decides about the group; where it does not, the node does. Certificates of the
	// built-in authority always do.
	Grouped bool
}

// CheckGroup says what is wrong with a group. An empty one is none.
func CheckGroup(group string) error {
	if group == "" {
		return nil
	}
	if err := nodeid.Check(group); err != nil {
		return fmt.Errorf("group %w", err)
	}
	return nil
}

// URI returns the name as certificates of the built-in authority have it.
func (n Name) URI() *url.URL {
	path := "/node/" + url.PathEscape(n.ID)
	if n.Group != "" {
		path = "/group/" + url.PathEscape(n.Group) + path
	}
	u := &url.URL{Scheme: "spiffe", Host: trustDomain}
	u.RawPath = path
	u.Path, _ = url.PathUnescape(path) // it is escaped well
	return u
}

// NameIn returns the name in a certificate whose authority is trusted to name nodes. Where there is a SPIFFE id, its
// path has to end in /node/ID, or in /group/GROUP/node/ID, whatever its trust domain. Otherwise the id is the subject's
// common name, or else the only DNS name, and the node itself says its group.
func NameIn(c *x509.Certificate) (Name, error) {
	var spiffe []*url.URL
	for _, u := range c.URIs {
		if strings.EqualFold(u.Scheme, "spiffe") {
			spiffe = append(spiffe, u)
		}
	}
	switch {
	case len(spiffe) > 1:
		return Name{}, errors.New("the certificate has several SPIFFE ids; one is allowed")
	case len(spiffe) == 1:
		return nameInURI(spiffe[0])
	}
	id := c.Subject.CommonName
	if id == "" && len(c.DNSNames) == 1 {
		id = c.DNSNames[0]
	}
	if id == "" {
		return Name{}, errors.New("the certificate names no node: it needs a URI such as spiffe://DOMAIN/node/ID, a common " +
			"name, or one DNS name")
	}
	if err := nodeid.Check(id); err != nil {
		return Name{}, fmt.Errorf("the certificate's name %w", err)
	}
	return Name{ID: id}, nil
}

func nameInURI(u *url.URL) (Name, error) {
	wrong := fmt.Errorf("the certificate's URI %q names no node: its path has to end in /node/ID or /group/GROUP/node/ID",
		u.Redacted())
	parts := strings.Split(u.EscapedPath(), "/")
	last := len(parts) - 1
	if last < 2 || parts[last-1] != "node" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return Name{}, wrong
	}
	id, err := url.PathUnescape(parts[last])
	if err != nil || nodeid.Check(id) != nil {
		return Name{}, wrong
	}
	n := Name{ID: id}
	if last >= 4 && parts[last-3] == "group" {
		n.Grouped = true
		if n.Group, err = url.PathUnescape(parts[last-2]); err != nil || nodeid.Check(n.Group) != nil {
			return Name{}, wrong
		}
	}
	return n, nil
}
