-- Functions that make addresses, protocols and flags readable in SQL.

-- Is an address (IPv6, IPv4 or text) inside a network? The network is text such as
-- '10.0.0.0/8', '2001:db8::/32' or a lone address. When the network is constant, the two ends of
-- its range are worked out once.
CREATE OR REPLACE FUNCTION in_net AS (addr, cidr) ->
    toIPv6(addr) BETWEEN
        IPv6CIDRToRange(toIPv6(splitByChar('/', cidr)[1]), toUInt8(
            toUInt8(if(position(cidr, '/') = 0, '128', splitByChar('/', cidr)[2]))
            + if(position(cidr, '/') = 0 OR position(cidr, ':') > 0, 0, 96))).1
    AND
        IPv6CIDRToRange(toIPv6(splitByChar('/', cidr)[1]), toUInt8(
            toUInt8(if(position(cidr, '/') = 0, '128', splitByChar('/', cidr)[2]))
            + if(position(cidr, '/') = 0 OR position(cidr, ':') > 0, 0, 96))).2;

-- An address as text, an IPv4-mapped one as IPv4.
CREATE OR REPLACE FUNCTION ip_text AS (addr) ->
    replaceRegexpOne(toString(toIPv6(addr)), '^::ffff:([0-9.]+)$', '\\1');

-- A MAC address (FixedString(6)) as text, 02:00:5e:10:00:01.
CREATE OR REPLACE FUNCTION mac_text AS (mac) ->
    replaceRegexpOne(lower(hex(mac)), '^(..)(..)(..)(..)(..)(..)$', '\\1:\\2:\\3:\\4:\\5:\\6');

-- The name of an IP protocol number (IANA), the number itself where it has no common name.
CREATE OR REPLACE FUNCTION proto_name AS (p) ->
    transform(toUInt8(p),
        [0, 1, 2, 4, 6, 17, 33, 41, 43, 44, 46, 47, 50, 51, 58, 59, 60,
         88, 89, 103, 112, 115, 132, 136],
        ['HOPOPT', 'ICMP', 'IGMP', 'IPIP', 'TCP', 'UDP', 'DCCP', 'IPv6', 'IPv6-Route', 'IPv6-Frag',
         'RSVP', 'GRE', 'ESP', 'AH', 'ICMPv6', 'IPv6-NoNxt', 'IPv6-Opts',
         'EIGRP', 'OSPF', 'PIM', 'VRRP', 'L2TP', 'SCTP', 'UDPLite'],
        toString(p));

-- The names of TCP flags that are set, lowest bit first: 'SYN ACK'.
CREATE OR REPLACE FUNCTION tcp_flags_text AS (f) ->
    arrayStringConcat(arrayMap(
        bit -> ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'][bit + 1],
        bitPositionsToArray(toUInt8(f))), ' ');
