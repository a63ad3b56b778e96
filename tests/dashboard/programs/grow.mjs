// Takes memory bit by bit, and gives most of it back.
const kept = [];
setInterval(() => {
  kept.push(Buffer.alloc(400_000, 1));
  if (kept.length > 90) kept.splice(0, 70);
}, 400);
