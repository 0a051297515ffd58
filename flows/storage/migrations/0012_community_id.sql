-- Community ID, by which flows are found again in what Zeek, Suricata, Arkime, Elastic wrote.

-- A port of ICMP (protocol 1) and ICMPv6 (58) is the type; the other one is the type of the
-- answer, or the code where there is no such pair.
CREATE OR REPLACE FUNCTION icmp_counterpart AS (proto, type, code) ->
    if(proto = 1,
        transform(type, [8, 0, 13, 14, 15, 16, 10, 9, 17, 18], [0, 8, 14, 13, 16, 15, 9, 10, 18, 17], code),
        transform(type, [128, 129, 130, 131, 133, 134, 135, 136, 139, 140, 144, 145],
            [129, 128, 131, 130, 134, 133, 136, 135, 140, 139, 145, 144], code));

-- Version 1, seed 0: the same for both ways of a flow. dst_port of ICMP is type * 256 + code, as in
-- flows. See github.com/corelight/community-id-spec.
CREATE OR REPLACE FUNCTION community_id AS (src, dst, sport, dport, proto) ->
    arrayMap((s, d, sp, dp, one_way) ->
        arrayMap(kept ->
            concat('1:', base64Encode(SHA1(concat(
                char(0, 0), if(kept, concat(s, d), concat(d, s)), char(proto, 0),
                if(proto IN (1, 6, 17, 58, 132),
                    if(kept,
                        char(intDiv(sp, 256), sp % 256, intDiv(dp, 256), dp % 256),
                        char(intDiv(dp, 256), dp % 256, intDiv(sp, 256), sp % 256)),
                    ''))))),
            [one_way OR (s, sp) <= (d, dp)])[1],
        [substring(IPv6StringToNum(toString(toIPv6(src))), if(in_net(src, '0.0.0.0/0'), 13, 1))],
        [substring(IPv6StringToNum(toString(toIPv6(dst))), if(in_net(dst, '0.0.0.0/0'), 13, 1))],
        [toUInt32(if(proto IN (1, 58), intDiv(dport, 256), sport))],
        [toUInt32(if(proto IN (1, 58), icmp_counterpart(proto, intDiv(dport, 256), dport % 256), dport))],
        [proto IN (1, 58) AND icmp_counterpart(proto, intDiv(dport, 256), 1000) = 1000])[1];
