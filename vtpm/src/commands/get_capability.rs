//! TPM2_GetCapability (Part 3, 30.2).

use super::prelude::*;
use crate::{capabilities, table::COMMANDS};

/// Room for the items of a list.
const ROOM: usize = limit::CAP_BUFFER - 8;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let capability = params.with(|reader| match reader.u32()? {
        capability @ (0..=10 | 0x100) => Ok(capability),
        _ => Err(Rc::VALUE),
    })?;
    let first: u32 = params.read()?;
    let count = params.read::<u32>()? as usize;
    params.end()?;
    let state = &*context.state;
    let items: Vec<Vec<u8>> = match capability {
        0 => from(
            first,
            capabilities::ALGORITHMS.iter().map(|(id, flags)| {
                (
                    u32::from(*id),
                    [&id.to_be_bytes()[..], &flags.to_be_bytes()].concat(),
                )
            }),
        ),
        1 => handles(context, first)
            .p(2)?
            .into_iter()
            .map(|handle| handle.to_be_bytes().to_vec())
            .collect(),
        2 => from(
            first,
            COMMANDS
                .iter()
                .map(|command| (command.code, command.attributes().to_be_bytes().to_vec())),
        ),
        3 => from(
            first,
            state
                .presence_commands()
                .into_iter()
                .map(|code| (code, code.to_be_bytes().to_vec())),
        ),
        4 => from(
            first,
            state
                .settings
                .audited
                .0
                .iter()
                .map(|code| (*code, code.to_be_bytes().to_vec())),
        ),
        5 => {
            ensure(first == 0, Rc::VALUE).p(2)?;
            // All banks or none.
            if count == 0 {
                reply.put(&1u8).put(&capability).put(&0u32);
            } else {
                let allocation = state.pcr_allocation();
                reply.put(&0u8).put(&capability).put(&allocation);
            }
            return Ok(());
        }
        6 => {
            // A list stays within its group: fixed or variable.
            let group = first.max(capabilities::PT_FIXED) & 0xFFFF_FF00;
            let properties = capabilities::properties(state).into_iter();
            let in_group = properties.filter(|(tag, _)| tag & 0xFFFF_FF00 == group);
            from(
                first,
                in_group
                    .map(|(tag, value)| (tag, [tag.to_be_bytes(), value.to_be_bytes()].concat())),
            )
        }
        7 => from(
            first,
            capabilities::pcr_properties()
                .into_iter()
                .map(|(tag, pcrs)| {
                    let mut item = tag.to_be_bytes().to_vec();
                    item.push(limit::PCR_SELECT as u8);
                    item.extend(pcrs.to_le_bytes().iter().take(limit::PCR_SELECT));
                    (tag, item)
                }),
        ),
        8 => from(
            first,
            crypto::Curve::ALL
                .iter()
                .map(|curve| (u32::from(curve.id()), curve.id().to_be_bytes().to_vec())),
        ),
        9 => {
            ensure(ht::of(first) == ht::PERMANENT, Rc::VALUE).p(2)?;
            from(first, policies(context).into_iter())
        }
        10 => {
            ensure((0x4000_0110..=0x4000_011F).contains(&first), Rc::VALUE).p(2)?;
            Vec::new()
        }
        _ => return Err(Rc::VALUE.parameter(1)),
    };
    let size = items.first().map_or(1, Vec::len);
    let shown = items.len().min(count).min(ROOM / size);
    reply
        .put(&u8::from(shown < items.len()))
        .put(&capability)
        .put(&(shown as u32));
    for item in items.iter().take(shown) {
        reply.raw(item);
    }
    Ok(())
}

fn from(first: u32, items: impl Iterator<Item = (u32, Vec<u8>)>) -> Vec<Vec<u8>> {
    items
        .filter(|(key, _)| *key >= first)
        .map(|(_, item)| item)
        .collect()
}

fn policies(context: &Context<'_>) -> Vec<(u32, Vec<u8>)> {
    let one = |handle: u32| {
        let access = context.state.access(handle)?;
        let mut item = handle.to_be_bytes().to_vec();
        item.put(&algorithms::hash_id(access.policy_alg));
        item.raw(&access.policy);
        Some((handle, item))
    };
    [rh::OWNER, rh::LOCKOUT, rh::ENDORSEMENT, rh::PLATFORM]
        .into_iter()
        .filter_map(one)
        .collect()
}

fn handles(context: &Context<'_>, first: u32) -> Result<Vec<u32>> {
    let state = &*context.state;
    let all: Vec<u32> = match ht::of(first) {
        ht::PCR => (0..limit::PCR_COUNT as u32).collect(),
        ht::NV_INDEX => state.nv.keys().copied().collect(),
        ht::HMAC_SESSION => {
            return Ok(state
                .ram
                .sessions
                .values()
                .filter(|session| session.number() >= first & 0x00FF_FFFF)
                .map(|session| session.handle)
                .collect());
        }
        ht::POLICY_SESSION => {
            return Ok(state
                .saved_sessions()
                .filter(|number| *number >= first & 0x00FF_FFFF)
                .map(|number| rh::HMAC_SESSION_FIRST | number)
                .collect());
        }
        ht::PERMANENT => alloc::vec![
            rh::OWNER,
            rh::NULL,
            rh::PW,
            rh::LOCKOUT,
            rh::ENDORSEMENT,
            rh::PLATFORM,
            rh::PLATFORM_NV,
        ],
        ht::TRANSIENT => {
            let used = (rh::TRANSIENT_FIRST..).zip(&state.ram.objects);
            used.filter(|(_, slot)| slot.is_some())
                .map(|(handle, _)| handle)
                .collect()
        }
        ht::PERSISTENT => state.persistent.keys().copied().collect(),
        _ => return Err(Rc::HANDLE),
    };
    Ok(all.into_iter().filter(|handle| *handle >= first).collect())
}
