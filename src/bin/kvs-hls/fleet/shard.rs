//! Which cameras this machine reads: rendezvous hashing, so that a camera moves only when its machine goes or a new one draws
//! it.

use std::str::FromStr;

use kvs_hls::{Error, ErrorKind};

/// A part of the cameras: the `index`-th of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

const ALLOWED: &str = "(I/N with I from 0 and below N, such as 0/3, or auto, is allowed)";

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "auto" {
            return Self::of_environment(|name| std::env::var(name).ok());
        }
        let parts = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        parts
            .filter(|(index, count)| index < count)
            .map(|(index, count)| Self { index, count })
            .ok_or_else(|| Error::new(ErrorKind::Config, format!("shard \"{text}\" {ALLOWED}")))
    }
}

impl Shard {
    /// What Kubernetes tells a pod: an Indexed Job its index, a StatefulSet its host name. The number of pods it tells
    /// nobody.
    fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let missing = |what: &str| Error::new(ErrorKind::Config, format!("shard auto without {what}"));
        let count = variable("KVS_HLS_SHARDS").ok_or_else(|| missing("KVS_HLS_SHARDS, the number of machines"))?;
        let index = variable("JOB_COMPLETION_INDEX")
            .or_else(|| variable("HOSTNAME").and_then(|name| Some(name.rsplit_once('-')?.1.to_owned())))
            .filter(|index| index.parse::<u32>().is_ok())
            .ok_or_else(|| missing("JOB_COMPLETION_INDEX, or a number at the end of HOSTNAME, such as cameras-2"))?;
        format!("{index}/{count}").parse()
    }

    /// Whether the camera belongs to this part.
    pub fn has(self, camera: &str) -> bool {
        (0..self.count).max_by_key(|index| weight(camera, *index)) == Some(self.index)
    }
}

/// How much a machine wants a camera: the same on every machine, in every version.
fn weight(camera: &str, index: u32) -> u64 {
    // FNV-1a, then SplitMix64's last steps: FNV's upper bits differ too little between short texts.
    let bytes = camera.bytes().chain([0]).chain(index.to_be_bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(camera: &str, count: u32) -> u32 {
        let mut owners = (0..count).filter(|&index| Shard { index, count }.has(camera));
        let owner = owners.next().expect("one");
        assert_eq!(owners.next(), None, "{camera} twice");
        owner
    }

    #[test]
    fn parts_are_even_and_a_camera_moves_only_when_it_must() {
        let cameras: Vec<_> = (0..10_000).map(|number| format!("camera-{number}")).collect();
        for count in [3, 10, 50] {
            let mut sizes = vec![0; count as usize];
            cameras.iter().for_each(|camera| sizes[owner(camera, count) as usize] += 1);
            let even = 10_000 / count;
            assert!(sizes.iter().all(|size| (even * 8 / 10..even * 12 / 10).contains(size)), "{sizes:?}");
            // One machine more: what moves, moves there.
            let moved: Vec<_> =
                cameras.iter().filter(|camera| owner(camera, count) != owner(camera, count + 1)).collect();
            assert!(moved.iter().all(|camera| owner(camera, count + 1) == count));
            assert!((moved.len() as u32) < 10_000 / count * 12 / 10, "{} of 10,000 move", moved.len());
        }
    }

    #[test]
    fn owners_stay_from_version_to_version() {
        assert_eq!(["front-door", "yard", "gate", ""].map(|camera| owner(camera, 5)), [2, 2, 1, 0]);
    }

    #[test]
    fn shards_are_read_from_text_and_environment() {
        assert_eq!("1/3".parse::<Shard>().unwrap(), Shard { index: 1, count: 3 });
        for text in ["", "3/3", "1", "-1/3", "0/0", "a/b", "1/3/5"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        let of = |variables: &[(&str, &str)]| {
            Shard::of_environment(|name| Some(variables.iter().find(|(known, _)| *known == name)?.1.to_owned()))
                .map_err(|error| error.to_string())
        };
        let shards = ("KVS_HLS_SHARDS", "4");
        assert_eq!(of(&[shards, ("HOSTNAME", "kvs-hls-cameras-3")]), Ok(Shard { index: 3, count: 4 }));
        assert_eq!(
            of(&[shards, ("HOSTNAME", "job-x7k"), ("JOB_COMPLETION_INDEX", "0")]),
            Ok(Shard { index: 0, count: 4 })
        );
        for (variables, said) in [
            (&[("HOSTNAME", "a-1")][..], "KVS_HLS_SHARDS"),
            (&[shards][..], "HOSTNAME"),
            (&[shards, ("HOSTNAME", "laptop")][..], "HOSTNAME"),
            (&[shards, ("HOSTNAME", "cameras-4")][..], "\"4/4\""),
        ] {
            let error = of(variables).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
