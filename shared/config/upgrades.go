package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const maxUpgrades = 16

// upgradeToken is a protocol with or without its version (RFC 9110 section 7.8).
var upgradeToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}(/[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})?$")

// upgrades checks what clients may go over to.
func (c *checker) upgrades(list []string) {
	if len(list) > maxUpgrades {
		c.fail("upgrades", "", "has %d entries; %d are allowed", len(list), maxUpgrades)
	}
	for i, u := range list {
		field := fmt.Sprintf("upgrades[%d]", i)
		name, version, _ := strings.Cut(strings.ToLower(u), "/")
		switch {
		case !upgradeToken.MatchString(u):
			c.fail(field, u, `has to be a protocol such as "websocket" or "name/version"`)
		case name == "h2c" || name == "http" || name == "tls":
			c.fail(field, u, "is spoken by the gateway itself and never gone over to by Upgrade (RFC 9113 section 3.1)")
		case name == ConnectUpgrade && version != "":
			c.fail(field, u, `has a version: "connect" is the method CONNECT, no protocol`)
		case u == NoUpgrades && len(list) > 1:
			c.fail(field, u, "can't be together with others: it stands for no protocol at all")
		case slices.ContainsFunc(list[:i], func(other string) bool { return strings.EqualFold(other, u) }):
			c.fail(field, u, "is there twice")
		}
	}
}
