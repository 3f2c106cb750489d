use crate::args::ProbeArgs;
use crate::failure::Failure;
pub async fn run(_args: ProbeArgs) -> Result<(), Failure> {
    Ok(())
}
