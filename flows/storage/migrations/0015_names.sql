-- Names that users give to prefixes, AS numbers, countries, interfaces and services: dictionaries
-- that views and functions look into when somebody asks. What is inserted knows nothing of them.
--
-- A load is a partition of its own, and counts when names_loads speaks of it and all of its rows
-- are there; so readers have the old names or the new ones. Keys of prefixes begin with the address
-- because the engine takes sorted ones in half the time.

CREATE TABLE IF NOT EXISTS names_loads
(
    kind LowCardinality(String) COMMENT 'Which names: the setting under names',
    load_id UInt64 COMMENT 'Load, by the time it began, Unix ns: the newest counts',
    digest String COMMENT 'Digest of the files',
    files Array(String) COMMENT 'The files, as the settings name them',
    row_count UInt64 COMMENT 'Rows of the load',
    loaded_at DateTime64(3, 'UTC') COMMENT 'When they were all stored, UTC, ms'
)
ENGINE = MergeTree
ORDER BY (kind, load_id)
SETTINGS non_replicated_deduplication_window = 100
COMMENT 'Loads of names that are stored whole';

CREATE TABLE IF NOT EXISTS names_networks_log
(
    load_id UInt64 COMMENT 'Load that the row belongs to' CODEC(ZSTD(1)),
    address IPv6 COMMENT 'First address of the prefix; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    prefix String COMMENT 'Prefix, as people write it' CODEC(ZSTD(1)),
    name LowCardinality(String) COMMENT 'Name of the network',
    site LowCardinality(String) COMMENT 'Where it is; empty for not known',
    description String COMMENT 'What it is for' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY load_id
ORDER BY address
SETTINGS non_replicated_deduplication_window = 100
COMMENT 'Networks, by load';

CREATE VIEW IF NOT EXISTS names_networks_newest
(
    prefix String COMMENT 'Prefix, as people write it',
    name LowCardinality(String) COMMENT 'Name of the network',
    site LowCardinality(String) COMMENT 'Where it is; empty for not known',
    description String COMMENT 'What it is for'
)
AS SELECT prefix, name, site, description
FROM names_networks_log
WHERE load_id =
(
    SELECT max(l.load_id)
    FROM names_loads AS l
    GLOBAL LEFT JOIN (SELECT load_id, count() AS found FROM names_networks_log GROUP BY load_id) AS r USING (load_id)
    WHERE l.kind = 'networks' AND r.found >= l.row_count
)
ORDER BY address;

CREATE DICTIONARY IF NOT EXISTS names_networks
(
    prefix String,
    name String,
    site String,
    description String
)
PRIMARY KEY prefix
SOURCE(CLICKHOUSE({{dictionary_user}}TABLE 'names_networks_newest'))
LAYOUT(IP_TRIE())
LIFETIME({{dictionary_lifetime}})
COMMENT 'Networks as they are now';

CREATE TABLE IF NOT EXISTS names_as_numbers_log
(
    load_id UInt64 COMMENT 'Load that the row belongs to' CODEC(ZSTD(1)),
    address IPv6 COMMENT 'First address of the prefix; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    prefix String COMMENT 'Prefix, as people write it' CODEC(ZSTD(1)),
    asn UInt32 COMMENT 'Number of the autonomous system that announces the prefix' CODEC(ZSTD(1)),
    name LowCardinality(String) COMMENT 'Its name'
)
ENGINE = MergeTree
PARTITION BY load_id
ORDER BY address
SETTINGS non_replicated_deduplication_window = 100
COMMENT 'AS numbers, by load';

CREATE VIEW IF NOT EXISTS names_as_numbers_newest
(
    prefix String COMMENT 'Prefix, as people write it',
    asn UInt32 COMMENT 'Number of the autonomous system that announces the prefix',
    name LowCardinality(String) COMMENT 'Its name'
)
AS SELECT prefix, asn, name
FROM names_as_numbers_log
WHERE load_id =
(
    SELECT max(l.load_id)
    FROM names_loads AS l
    GLOBAL LEFT JOIN (SELECT load_id, count() AS found FROM names_as_numbers_log GROUP BY load_id) AS r USING (load_id)
    WHERE l.kind = 'as_numbers' AND r.found >= l.row_count
)
ORDER BY address;

CREATE DICTIONARY IF NOT EXISTS names_as_numbers
(
    prefix String,
    asn UInt32,
    name String
)
PRIMARY KEY prefix
SOURCE(CLICKHOUSE({{dictionary_user}}TABLE 'names_as_numbers_newest'))
LAYOUT(IP_TRIE())
LIFETIME({{dictionary_lifetime}})
COMMENT 'AS numbers as they are now';

CREATE TABLE IF NOT EXISTS names_countries_log
(
    load_id UInt64 COMMENT 'Load that the row belongs to' CODEC(ZSTD(1)),
    address IPv6 COMMENT 'First address of the prefix; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    prefix String COMMENT 'Prefix, as people write it' CODEC(ZSTD(1)),
    country LowCardinality(String) COMMENT 'Country, two letters (ISO 3166)'
)
ENGINE = MergeTree
PARTITION BY load_id
ORDER BY address
SETTINGS non_replicated_deduplication_window = 100
COMMENT 'Countries, by load';

CREATE VIEW IF NOT EXISTS names_countries_newest
(
    prefix String COMMENT 'Prefix, as people write it',
    country LowCardinality(String) COMMENT 'Country, two letters (ISO 3166)'
)
AS SELECT prefix, country
FROM names_countries_log
WHERE load_id =
(
    SELECT max(l.load_id)
    FROM names_loads AS l
    GLOBAL LEFT JOIN (SELECT load_id, count() AS found FROM names_countries_log GROUP BY load_id) AS r USING (load_id)
    WHERE l.kind = 'countries' AND r.found >= l.row_count
)
ORDER BY address;

CREATE DICTIONARY IF NOT EXISTS names_countries
(
    prefix String,
    country String
)
PRIMARY KEY prefix
SOURCE(CLICKHOUSE({{dictionary_user}}TABLE 'names_countries_newest'))
LAYOUT(IP_TRIE())
LIFETIME({{dictionary_lifetime}})
COMMENT 'Countries as they are now';

CREATE TABLE IF NOT EXISTS names_interfaces_log
(
    load_id UInt64 COMMENT 'Load that the row belongs to' CODEC(ZSTD(1)),
    probe LowCardinality(String) COMMENT 'Probe',
    interface String COMMENT 'Index of the interface, or the name that the probe reports' CODEC(ZSTD(1)),
    name String COMMENT 'Name for people' CODEC(ZSTD(1)),
    description String COMMENT 'What is behind it' CODEC(ZSTD(1)),
    speed_bps UInt64 COMMENT 'Speed, bit/s; 0 for not known' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY load_id
ORDER BY (probe, interface)
SETTINGS non_replicated_deduplication_window = 100
COMMENT 'Interfaces, by load';

CREATE VIEW IF NOT EXISTS names_interfaces_newest
(
    probe LowCardinality(String) COMMENT 'Probe',
    interface String COMMENT 'Index of the interface, or the name that the probe reports',
    name String COMMENT 'Name for people',
    description String COMMENT 'What is behind it',
    speed_bps UInt64 COMMENT 'Speed, bit/s; 0 for not known'
)
AS SELECT probe, interface, name, description, speed_bps
FROM names_interfaces_log
WHERE load_id =
(
    SELECT max(l.load_id)
    FROM names_loads AS l
    GLOBAL LEFT JOIN (SELECT load_id, count() AS found FROM names_interfaces_log GROUP BY load_id) AS r USING (load_id)
    WHERE l.kind = 'interfaces' AND r.found >= l.row_count
);

CREATE DICTIONARY IF NOT EXISTS names_interfaces
(
    probe String,
    interface String,
    name String,
    description String,
    speed_bps UInt64
)
PRIMARY KEY probe, interface
SOURCE(CLICKHOUSE({{dictionary_user}}TABLE 'names_interfaces_newest'))
LAYOUT(COMPLEX_KEY_HASHED())
LIFETIME({{dictionary_lifetime}})
COMMENT 'Interfaces as they are now';

CREATE TABLE IF NOT EXISTS names_services_log
(
    load_id UInt64 COMMENT 'Load that the row belongs to' CODEC(ZSTD(1)),
    ip_proto UInt8 COMMENT 'IP protocol number (IANA)' CODEC(ZSTD(1)),
    port UInt16 COMMENT 'Port' CODEC(ZSTD(1)),
    name String COMMENT 'Name of the service' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY load_id
ORDER BY (ip_proto, port)
SETTINGS non_replicated_deduplication_window = 100
COMMENT 'Services, by load';

-- Well-known services, and before them what the user says.
CREATE VIEW IF NOT EXISTS names_services_newest
(
    ip_proto UInt8 COMMENT 'IP protocol number (IANA)',
    port UInt16 COMMENT 'Port',
    name String COMMENT 'Name of the service'
)
AS
SELECT ip_proto, port, argMax(name, own) AS name
FROM
(
    SELECT ip_proto, port, name, 1 AS own
    FROM names_services_log
    WHERE load_id =
    (
        SELECT max(l.load_id)
        FROM names_loads AS l
        GLOBAL LEFT JOIN (SELECT load_id, count() AS found FROM names_services_log GROUP BY load_id) AS r USING (load_id)
        WHERE l.kind = 'services' AND r.found >= l.row_count
    )
    UNION ALL
    SELECT 6 AS ip_proto, known.1 AS port, known.2 AS name, 0 AS own
    FROM system.one
    ARRAY JOIN [
        (7, 'echo'), (9, 'discard'), (13, 'daytime'), (19, 'chargen'), (20, 'ftp-data'),
        (21, 'ftp'), (22, 'ssh'), (23, 'telnet'), (25, 'smtp'), (43, 'whois'), (49, 'tacacs'),
        (53, 'dns'), (70, 'gopher'), (79, 'finger'), (80, 'http'), (88, 'kerberos'),
        (102, 'iso-tsap'), (110, 'pop3'), (111, 'rpcbind'), (113, 'ident'), (119, 'nntp'),
        (135, 'ms-rpc'), (139, 'netbios'), (143, 'imap'), (179, 'bgp'), (194, 'irc'),
        (389, 'ldap'), (427, 'slp'), (443, 'https'), (445, 'smb'), (464, 'kpasswd'),
        (465, 'smtps'), (502, 'modbus'), (512, 'rexec'), (513, 'rlogin'), (514, 'rsh'),
        (515, 'lpd'), (543, 'klogin'), (544, 'kshell'), (548, 'afp'), (554, 'rtsp'),
        (587, 'submission'), (593, 'rpc-http'), (631, 'ipp'), (636, 'ldaps'), (646, 'ldp'),
        (830, 'netconf'), (853, 'dns-tls'), (860, 'iscsi'), (873, 'rsync'), (989, 'ftps-data'),
        (990, 'ftps'), (993, 'imaps'), (995, 'pop3s'), (1080, 'socks'), (1194, 'openvpn'),
        (1352, 'notes'), (1433, 'mssql'), (1521, 'oracle'), (1720, 'h323'), (1723, 'pptp'),
        (1883, 'mqtt'), (2049, 'nfs'), (2181, 'zookeeper'), (2375, 'docker'),
        (2376, 'docker-tls'), (2379, 'etcd'), (2404, 'iec-104'), (3128, 'proxy'),
        (3260, 'iscsi-target'), (3268, 'gc'), (3269, 'gc-tls'), (3306, 'mysql'), (3389, 'rdp'),
        (3690, 'svn'), (4317, 'otlp'), (4369, 'epmd'), (4840, 'opc-ua'), (5044, 'beats'),
        (5060, 'sip'), (5061, 'sips'), (5222, 'xmpp'), (5269, 'xmpp-server'),
        (5432, 'postgresql'), (5555, 'adb'), (5601, 'kibana'), (5672, 'amqp'), (5671, 'amqps'),
        (5900, 'vnc'), (5984, 'couchdb'), (5985, 'winrm'), (5986, 'winrm-tls'), (6379, 'redis'),
        (6443, 'kubernetes'), (6667, 'irc'), (6881, 'bittorrent'), (7000, 'cassandra'),
        (8080, 'http-alt'), (8123, 'clickhouse'), (8443, 'https-alt'), (8883, 'mqtts'),
        (8888, 'http-alt'), (9000, 'clickhouse-native'), (9042, 'cql'), (9090, 'prometheus'),
        (9092, 'kafka'), (9100, 'jetdirect'), (9200, 'elasticsearch'),
        (9300, 'elasticsearch-node'), (9418, 'git'), (10250, 'kubelet'), (11211, 'memcached'),
        (20000, 'dnp3'), (25565, 'minecraft'), (27017, 'mongodb'), (44818, 'ethernet-ip'),
        (50000, 'db2')] AS known
    UNION ALL
    SELECT 17 AS ip_proto, known.1 AS port, known.2 AS name, 0 AS own
    FROM system.one
    ARRAY JOIN [
        (7, 'echo'), (9, 'discard'), (13, 'daytime'), (17, 'qotd'), (19, 'chargen'), (53, 'dns'),
        (67, 'dhcp-server'), (68, 'dhcp-client'), (69, 'tftp'), (88, 'kerberos'),
        (111, 'rpcbind'), (123, 'ntp'), (137, 'netbios-ns'), (138, 'netbios-dgm'), (161, 'snmp'),
        (162, 'snmp-trap'), (177, 'xdmcp'), (319, 'ptp-event'), (320, 'ptp-general'),
        (389, 'ldap'), (427, 'slp'), (443, 'quic'), (464, 'kpasswd'), (500, 'ike'),
        (514, 'syslog'), (520, 'rip'), (521, 'ripng'), (546, 'dhcpv6-client'),
        (547, 'dhcpv6-server'), (623, 'ipmi'), (646, 'ldp'), (853, 'dns-quic'),
        (1194, 'openvpn'), (1434, 'mssql-browser'), (1645, 'radius'), (1646, 'radius-acct'),
        (1701, 'l2tp'), (1719, 'h323-ras'), (1812, 'radius'), (1813, 'radius-acct'),
        (1900, 'ssdp'), (2049, 'nfs'), (2055, 'netflow'), (2123, 'gtp-c'), (2152, 'gtp-u'),
        (3283, 'apple-remote'), (3389, 'rdp'), (3478, 'stun'), (3702, 'ws-discovery'),
        (3784, 'bfd'), (4500, 'ipsec-nat'), (4739, 'ipfix'), (4789, 'vxlan'), (5004, 'rtp'),
        (5005, 'rtcp'), (5060, 'sip'), (5061, 'sips'), (5246, 'capwap'), (5247, 'capwap-data'),
        (5349, 'turns'), (5353, 'mdns'), (5355, 'llmnr'), (5683, 'coap'), (5684, 'coaps'),
        (6081, 'geneve'), (6343, 'sflow'), (6881, 'bittorrent'), (8472, 'vxlan-linux'),
        (11211, 'memcached'), (27015, 'source-engine'), (47808, 'bacnet'), (51820, 'wireguard')] AS known
    UNION ALL
    SELECT 132 AS ip_proto, known.1 AS port, known.2 AS name, 0 AS own
    FROM system.one
    ARRAY JOIN [
        (2905, 'm3ua'), (3868, 'diameter'), (36412, 's1ap'), (36422, 'x2ap'), (38412, 'ngap')] AS known
)
GROUP BY ip_proto, port;

CREATE DICTIONARY IF NOT EXISTS names_services
(
    ip_proto UInt8,
    port UInt16,
    name String
)
PRIMARY KEY ip_proto, port
SOURCE(CLICKHOUSE({{dictionary_user}}TABLE 'names_services_newest'))
LAYOUT(COMPLEX_KEY_HASHED())
LIFETIME({{dictionary_lifetime}})
COMMENT 'Services as they are now';

-- Of an address: the longest prefix counts, and what is in none is 0 or empty.
CREATE OR REPLACE FUNCTION as_number AS (addr) -> dictGet('names_as_numbers', 'asn', toIPv6(addr));

CREATE OR REPLACE FUNCTION as_name AS (addr) -> dictGet('names_as_numbers', 'name', toIPv6(addr));

CREATE OR REPLACE FUNCTION country_code AS (addr) -> dictGet('names_countries', 'country', toIPv6(addr));

CREATE OR REPLACE FUNCTION network_name AS (addr) -> dictGet('names_networks', 'name', toIPv6(addr));

CREATE OR REPLACE FUNCTION site_name AS (addr) -> dictGet('names_networks', 'site', toIPv6(addr));

-- Of a port of an IP protocol.
CREATE OR REPLACE FUNCTION service_name AS (proto, port) ->
    dictGet('names_services', 'name', (toUInt8(proto), toUInt16(port)));

-- Of an interface of a probe, by its index or the name that the probe reports.
CREATE OR REPLACE FUNCTION interface_name AS (probe, interface) ->
    dictGet('names_interfaces', 'name', (toString(probe), toString(interface)));

CREATE VIEW IF NOT EXISTS flows_named
(
    tenant LowCardinality(String) COMMENT 'Tenant that the probe belongs to',
    probe LowCardinality(String) COMMENT 'Probe that saw the packets; the file name for a capture',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the pane, event time, UTC, ms',
    src_addr IPv6 COMMENT 'Source address; IPv4 as ::ffff:a.b.c.d; :: for non-IP',
    dst_addr IPv6 COMMENT 'Destination address; IPv4 as ::ffff:a.b.c.d; :: for non-IP',
    src_port UInt16 COMMENT 'Source port; 0 where there is none',
    dst_port UInt16 COMMENT 'Destination port; ICMP: type * 256 + code',
    ip_proto UInt8 COMMENT 'IP protocol number (IANA)',
    eth_type UInt16 COMMENT 'EtherType of the payload',
    vlan_id UInt16 COMMENT 'Outermost VLAN id; 0 for none',
    tunnel_id UInt32 COMMENT 'VNI or key of the outermost tunnel; 0 for none',
    if_index UInt32 COMMENT 'Index of the interface that saw the packets',
    if_name LowCardinality(String) COMMENT 'Name of the interface that saw the packets',
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2) COMMENT 'Way through the interface',
    capture_point Enum8('file' = 0, 'xdp' = 1, 'tc' = 2, 'af_packet' = 3, 'synthetic' = 4) COMMENT 'Where the packets were seen',
    src_mac FixedString(6) COMMENT 'Source MAC address, 6 bytes; zero where there is none; see mac_text()',
    dst_mac FixedString(6) COMMENT 'Destination MAC address, 6 bytes; zero where there is none; see mac_text()',
    src_net LowCardinality(String) COMMENT 'Name of the configured network of the source; empty for none',
    dst_net LowCardinality(String) COMMENT 'Name of the configured network of the destination; empty for none',
    packets UInt64 COMMENT 'Packets, scaled by the sampling rate',
    bytes UInt64 COMMENT 'Layer-2 bytes on the wire, without preamble and FCS, scaled by the sampling rate',
    first_seen DateTime64(9, 'UTC') COMMENT 'Capture time of the first packet, UTC, ns',
    last_seen DateTime64(9, 'UTC') COMMENT 'Capture time of the last packet, UTC, ns',
    tcp_flags UInt8 COMMENT 'TCP flags of all packets, OR-ed; see tcp_flags_text()',
    sampling_rate UInt32 COMMENT 'Packets that one captured packet stands for; 1 without sampling',
    folded_flows UInt32 COMMENT 'Flows that a folded row stands for; 0 for an ordinary row',
    ingested_at DateTime('UTC') COMMENT 'Time of the insert, UTC, s',
    src_as UInt32 COMMENT 'AS number of the source; 0 for not known',
    src_as_name String COMMENT 'Name of the AS of the source; empty for not known',
    src_country String COMMENT 'Country of the source, two letters (ISO 3166); empty for not known',
    src_network String COMMENT 'Name of the longest prefix of names.networks that holds the source; empty for none',
    src_site String COMMENT 'Site of that prefix',
    dst_as UInt32 COMMENT 'AS number of the destination; 0 for not known',
    dst_as_name String COMMENT 'Name of the AS of the destination; empty for not known',
    dst_country String COMMENT 'Country of the destination, two letters (ISO 3166); empty for not known',
    dst_network String COMMENT 'Name of the longest prefix of names.networks that holds the destination; empty for none',
    dst_site String COMMENT 'Site of that prefix',
    service String COMMENT 'Name of the lower port that has one, else of the other; empty for none',
    interface String COMMENT 'Name of the interface in names.interfaces, else the one that the probe reports',
    interface_description String COMMENT 'Description of the interface; empty for none',
    interface_speed UInt64 COMMENT 'Speed of the interface, bit/s; 0 for not known'
)
AS WITH
    (toString(probe), if(dictHas('names_interfaces', (toString(probe), toString(if_index))),
        toString(if_index), toString(if_name))) AS interface_key,
    dictGet('names_interfaces', 'name', interface_key) AS given_interface,
    dictGet('names_services', 'name', (ip_proto, least(src_port, dst_port))) AS lower_service
SELECT
    tenant, probe, window_start, src_addr, dst_addr, src_port, dst_port, ip_proto, eth_type,
    vlan_id, tunnel_id, if_index, if_name, direction, capture_point, src_mac, dst_mac, src_net,
    dst_net, packets, bytes, first_seen, last_seen, tcp_flags, sampling_rate, folded_flows,
    ingested_at,
    dictGet('names_as_numbers', 'asn', src_addr) AS src_as,
    dictGet('names_as_numbers', 'name', src_addr) AS src_as_name,
    dictGet('names_countries', 'country', src_addr) AS src_country,
    dictGet('names_networks', 'name', src_addr) AS src_network,
    dictGet('names_networks', 'site', src_addr) AS src_site,
    dictGet('names_as_numbers', 'asn', dst_addr) AS dst_as,
    dictGet('names_as_numbers', 'name', dst_addr) AS dst_as_name,
    dictGet('names_countries', 'country', dst_addr) AS dst_country,
    dictGet('names_networks', 'name', dst_addr) AS dst_network,
    dictGet('names_networks', 'site', dst_addr) AS dst_site,
    if(lower_service != '', lower_service,
        dictGet('names_services', 'name', (ip_proto, greatest(src_port, dst_port)))) AS service,
    if(given_interface != '', given_interface, toString(if_name)) AS interface,
    dictGet('names_interfaces', 'description', interface_key) AS interface_description,
    dictGet('names_interfaces', 'speed_bps', interface_key) AS interface_speed
FROM flows;
